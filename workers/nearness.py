"""When rounding of float32 endangers a pair's kernel: the numbers of the judgement by patches.

docs/banded_kernel.md ("Images that nearly coincide") explains them. These are for plain JAX; for
native code they are in native/near_patches.hpp.
"""

from kipper.workers.bands import BandedNetwork

NEAR_GAP = 1e-3  # patches are near below it, and lose next to nothing above
MOST_NEAR = 0.5  # the share of near patches at equal places, in any stage
# Patches are weighed by |k|. Below the first one a patch is lost.
LOST_GAP = 5e-7
MOST_LOST = 3e-3  # the lost share of what the read-out averages, summed over layers
# In networks with pools, which average the rounding of their patches: the gap for MOST_NEAR, and
# the lost share.
POOLED_NEAR_GAP = 3e-4
POOLED_MOST_LOST = 6e-3


def near_gap(network: BandedNetwork) -> float:
    """The gap below which patches count for MOST_NEAR."""
    return NEAR_GAP if _only_equal_places(network) else POOLED_NEAR_GAP


def most_lost(network: BandedNetwork) -> float:
    """The lost share above which a pair is endangered."""
    return MOST_LOST if _only_equal_places(network) else POOLED_MOST_LOST


def judged_step(network: BandedNetwork, index: int) -> int:
    """At offsets other than (0, 0) one in so many rows of a stage is judged.

    The first of them is in the middle of so many rows.
    """
    return max(network.sizes[index][0] // (6 if index else 2), 1)


def _only_equal_places(network: BandedNetwork) -> bool:
    """Whether patches are compared at offset (0, 0) only, as in networks without pools."""
    return network.bands[0] == (0, 0)
