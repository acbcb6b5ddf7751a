"""When rounding of float32 endangers a pair's kernel: the numbers of the judgement by patches.

docs/banded_kernel.md ("Images that nearly coincide") explains them. These are for plain JAX; for
native code they are in native/near_patches.hpp.
"""

from kipper.workers.bands import BandedNetwork

NEAR_GAP = 1e-3  # patches are near below it, and lose next to nothing above
POOLED_NEAR_GAP = 3e-4  # for MOST_NEAR in networks with pools, which average rounding
MOST_NEAR = 0.5  # the share of near patches at equal places, in any stage
# Patches are weighed by |k|. Below the first one a patch is lost.
LOST_GAP = 5e-7
MOST_LOST = 6e-3  # the lost share of what the read-out averages, summed over layers


def near_gap(network: BandedNetwork) -> float:
    """The gap below which patches count for MOST_NEAR."""
    return NEAR_GAP if _only_equal_places(network) else POOLED_NEAR_GAP


def judged_step(network: BandedNetwork, index: int) -> int:
    """One in so many rows of a stage is judged, from the middle of the first ones on."""
    height = network.sizes[index][0]
    if _only_equal_places(network):
        return min(2 * network.stages[0].convs + 1, height)
    return max(height // (6 if index else 2), 1)


def _only_equal_places(network: BandedNetwork) -> bool:
    """Whether patches are compared at offset (0, 0) only, as in networks without pools."""
    return network.bands[0] == (0, 0)
