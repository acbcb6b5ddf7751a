"""How a kernel matrix is cut into blocks: pure arithmetic on sizes."""

import dataclasses
import itertools
from collections.abc import Iterator

from kipper.common.architecture import Conv, KernelSpec
from kipper.common.engines import engines_for

# Approximate memory for one block on its worker: small enough for small devices, large enough that
# the cost of dispatch is negligible. Independent of the number of workers, because block shapes
# decide how sums are rounded.
BLOCK_BYTES = 128 * 2**20
# Arrays of a block's size that neural-tangents holds at once while it evaluates a kernel.
_ARRAYS_ALIVE = 6
# Whole batches of cheap kernels would fit in the budget; smaller blocks can be shared by workers.
_LARGEST_TARGET = 2048
# With fewer, workers idle while others end their last block of a phase.
_BLOCKS_OF_A_STEP = 32
# Images in the longest vector of a native engine, which computes whole vectors only.
_LANES = 16


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Largest block sides; `spans` cuts each dimension into nearly equal blocks within them.

    Attributes:
        support: support images in a block.
        target: target images in a block.
        fewest_pairs: the least number of pairs in a block, if a step has so many; None if steps are
            not cut further than `target` says.
    """

    support: int
    target: int
    fewest_pairs: int | None = None

    def spans_of_step(self, support: int, targets: int) -> list[tuple[int, int]]:
        """Half-open ranges of the targets of a step's blocks, with `support` by `targets` images.

        They depend on the step alone, so that sums have one order whatever workers there are. All
        but the last fill whole vectors.
        """
        if self.fewest_pairs is None:
            return spans(targets, self.target)
        shared = -(-targets * len(spans(support, self.support)) // _BLOCKS_OF_A_STEP)
        fewest = -(-self.fewest_pairs // min(support, self.support))
        whole_vectors = -(-max(shared, fewest) // _LANES) * _LANES
        columns = min(self.target, whole_vectors)
        return [(first, min(first + columns, targets)) for first in range(0, targets, columns)]


def spans(total: int, largest: int) -> list[tuple[int, int]]:
    """Half-open ranges that cover 0…total in order, each at most `largest` long.

    There are as few as possible, of nearly equal length, so that at most two shapes are compiled.
    """
    count = -(-total // largest)
    return list(itertools.pairwise(total * i // count for i in range(count + 1)) if count else ())


def triangle(total: int, largest: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Row and column ranges of the blocks on and above the diagonal of a square matrix."""
    ranges = spans(total, largest)
    for i, rows in enumerate(ranges):
        for columns in ranges[i:]:
            yield rows, columns


def tiling_for(
    spec: KernelSpec,
    engine: str,
    image_shape: tuple[int, int, int],
    block_support: int | None,
    block_target: int | None,
) -> Tiling:
    """Block sides as given, else as the engine's table entry says, else by memory.

    Args:
        spec: the kernel.
        engine: the name that the user gave, maybe `auto`.
        image_shape: (h, w, c).
        block_support: largest number of support images in a block, or None to choose.
        block_target: largest number of target images in a block, or None to choose.

    Raises:
        UserError: the engine cannot evaluate the kernel.
    """
    entries = engines_for(engine, spec.architecture)
    entry = entries[0]
    itemsize = 8 if spec.dtype == "float64" or entry.always_float64 else 4
    height, width, channels = image_shape
    pixels = height * width
    if spec.architecture.couples_pixels:
        pixel_pairs = pixels**2
    else:
        pixel_pairs = pixels if Conv() in spec.architecture.layers else 1
    per_pair = _ARRAYS_ALIVE * itemsize * pixel_pairs
    per_image = 2 * itemsize * pixels * channels  # as stored and as gathered
    support = block_support or entry.block_support or _largest_support(per_pair)
    by_memory = max(1, BLOCK_BYTES // (support * per_pair + per_image))
    target = block_target or entry.block_target or min(_LARGEST_TARGET, by_memory)
    # Those of the smallest blocks, where workers may have different engines.
    fewest = -(-min(entry.fewest_pairs for entry in entries) * 32**4 // pixel_pairs)
    return Tiling(support, target, None if block_target else fewest)


def _largest_support(per_pair: int) -> int:
    """The side of a square block, at most 128, so that the gradient has enough of them."""
    return min(128, max(1, int((BLOCK_BYTES / per_pair) ** 0.5)))
