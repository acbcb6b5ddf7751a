"""How a kernel matrix is cut into blocks: pure arithmetic on sizes."""

import dataclasses
import itertools
from collections.abc import Iterator

from kipper.common.architecture import Conv, KernelSpec

# Memory that one block may take on its worker, roughly: few enough bytes for small devices, many
# enough pairs that dispatch costs nothing beside them. Independent of the number of workers, since
# block shapes decide how sums are rounded.
BLOCK_BYTES = 128 * 2**20
# Arrays of a block's size alive at once while a kernel is evaluated, counted for neural-tangents.
_ARRAYS_ALIVE = 6
# Cheap kernels would fit whole batches in the budget; smaller blocks let several workers share one.
_LARGEST_TARGET = 2048


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Largest block sides; `spans` makes the blocks of a dimension nearly equal within them.

    Attributes:
        support: support images in a block.
        target: target images in a block.
    """

    support: int
    target: int


# Seconds of work on a core, so that dispatch costs nothing beside it, and whole vectors of lanes.
_BANDED = Tiling(32, 256)
# The dense engine's time is that of gathering target images and of a matrix product, both better
# for more support images at once (docs/dense_kernel.md).
_DENSE_SUPPORT = 512


def spans(total: int, largest: int) -> list[tuple[int, int]]:
    """Half-open ranges that cover 0…total in order, each at most `largest` long.

    As few as possible, and nearly equal, so that only two shapes are ever compiled.
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
    """Block sides from the memory budget, or as given.

    Args:
        spec: the kernel.
        engine: as the user gave it. neural-tangents, which evaluates all but ReLU networks in any
            case, holds every pixel pair of every image pair of a kernel with pooling; the banded
            engines hold one pair at a time, the dense one a few numbers of each.
        image_shape: (h, w, c).
        block_support: largest number of support images in a block, or None to choose.
        block_target: likewise of target images.
    """
    convolutional = any(isinstance(layer, Conv) for layer in spec.architecture.layers)
    fast = engine != "neural_tangents" and spec.architecture.is_rectified
    if convolutional and fast:
        return Tiling(block_support or _BANDED.support, block_target or _BANDED.target)
    itemsize = 8 if spec.dtype == "float64" else 4
    height, width, channels = image_shape
    pixels = height * width
    if spec.architecture.couples_pixels:
        per_pair = _ARRAYS_ALIVE * itemsize * pixels**2
    elif convolutional:
        per_pair = _ARRAYS_ALIVE * itemsize * pixels
    else:
        per_pair = _ARRAYS_ALIVE * itemsize
    per_image = 2 * itemsize * pixels * channels  # as stored and as gathered
    support = block_support or (_DENSE_SUPPORT if fast else _largest_support(per_pair))
    target = block_target or min(
        _LARGEST_TARGET, max(1, BLOCK_BYTES // (support * per_pair + per_image))
    )
    return Tiling(support, target)


def _largest_support(per_pair: int) -> int:
    """The side of a square block, within reason: longer rows only make the gradient coarser."""
    return min(128, max(1, int((BLOCK_BYTES / per_pair) ** 0.5)))
