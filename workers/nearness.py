"""When rounding of float32 endangers a pair's kernel: the numbers of the judgement by patches.

docs/banded_kernel.md ("Images that nearly coincide") explains them; native/nearness.hpp has them
for CPUs.
"""

from kipper.workers.bands import BandedNetwork

NEAR_GAP = 1e-3  # patches are near below it
MOST_NEAR = 0.5  # the share of near patches at equal places, in any stage
# CPUs and plain JAX weigh patches by |k|, and take a patch for lost below the first.
LOST_GAP = 5e-7
MOST_LOST = 6e-3  # the lost share of what the read-out averages, summed over layers
# Native code for GPUs weighs patches alike, and looks at the last layer of a stage only.
GAP_ROUNDING = 1e-7  # of 1 - |c|
MOST_DAMAGE = 8e-3  # the damaged share of what the read-out averages


def judged_step(network: BandedNetwork, index: int) -> int:
    """One in so many rows of a stage is judged, from the middle of the first ones on."""
    height = network.sizes[index][0]
    if len(network.stages) == 1:
        return min(2 * network.stages[0].convs + 1, height)
    return max(height // (6 if index else 2), 1)
