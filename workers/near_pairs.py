"""Which pairs of images nearly coincide as wholes, or have faint patches, from the images alone.

float32 cannot hold the kernels of such pairs, or their gradients (docs/banded_kernel.md, "Images
that nearly coincide"). Pairs that share other patches are found by the engines while they evaluate.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from kipper.common.architecture import Architecture
from kipper.common.linalg import matmul, row_sums

# Squared distances, relative to the smaller square of an image, with the bias of its pixels: images
# nearly coincide up to the first. The rounding of a matrix product is far below the second.
_NEAR = 1e-4
_CANDIDATE = 1e-3
# Patches are faint whose gap from a black one is below this. Grey bytes from 0 to 1 have none.
_FAINT_GAP = 1e-4
# Pairs whose differences are formed together.
_PAIRS_AT_A_TIME = 256


def crowded(images: np.ndarray, architecture: Architecture) -> np.ndarray:
    """(n, h, w, c) -> (n,) boolean: whether an image is near another one, see `Nearness`."""
    near = np.zeros(len(images), bool)
    for start in range(0, len(images), _PAIRS_AT_A_TIME):
        rows = slice(start, start + _PAIRS_AT_A_TIME)
        near[rows] = image_nearness(images[rows], images, architecture).near.any(1)
    return near


class Nearness(NamedTuple):
    """Boolean arrays (n, m) of pairs: images that are equal, and those that float32 cannot hold.

    The latter nearly coincide, or one has faint patches and the other one black ones.
    """

    equal: np.ndarray
    near: np.ndarray


def image_nearness(x1: np.ndarray, x2: np.ndarray, architecture: Architecture) -> Nearness:
    """The nearness of images (n, h, w, c) to images (m, h, w, c).

    Each pair is judged by itself, so that nothing depends on the other images.
    """
    values = math.prod(x1.shape[1:])
    rows, columns = x1.reshape(len(x1), values), x2.reshape(len(x2), values)
    bias = values * (architecture.b_std / architecture.w_std) ** 2
    nearness = Nearness(*(np.zeros((len(x1), len(x2)), bool) for _ in range(2)))
    # Infinite images mean that a run has diverged, which the regression reports.
    with np.errstate(over="ignore", invalid="ignore"):
        q1, q2 = (row_sums(np.square(side)).astype(np.float64) for side in (rows, columns))
        smaller = np.minimum.outer(q1, q2) + bias
        distances = np.add.outer(q1, q2) - 2.0 * matmul(rows, columns.T)
        first, second = np.nonzero(distances <= _CANDIDATE * smaller)
        for start in range(0, len(first), _PAIRS_AT_A_TIME):
            pairs = first[start:][:_PAIRS_AT_A_TIME], second[start:][:_PAIRS_AT_A_TIME]
            differences = rows[pairs[0]].astype(np.float64) - columns[pairs[1]]
            exact = row_sums(np.square(differences))
            nearness.equal[pairs] = ~differences.any(1)
            nearness.near[pairs] = differences.any(1) & (exact <= _NEAR * smaller[pairs])
        faint = _faint_beside_black(x1, x2, architecture)
        np.logical_or(nearness.near, faint & ~nearness.equal, out=nearness.near)
    return nearness


def _faint_beside_black(
    x1: np.ndarray, x2: np.ndarray, architecture: Architecture
) -> np.ndarray | bool:
    """(n, m) boolean: whether an image of a pair has a faint patch, and the other a black one."""
    # Of pixels' mean squares over channels, summed over a patch: the gap is that over twice bias.
    limit = 18 * _FAINT_GAP * (architecture.b_std / architecture.w_std) ** 2
    squares = [_mean_squares(images) for images in (x1, x2)]
    if not any(_faint(maps, limit).any() for maps in squares):
        return False
    sums = [_patch_sums(maps) for maps in squares]
    faint1, faint2 = (_faint(maps, limit) for maps in sums)
    black1, black2 = ((maps == 0).any((1, 2)) for maps in sums)
    return np.logical_and.outer(faint1, black2) | np.logical_and.outer(black1, faint2)


def _faint(maps: np.ndarray, limit: float) -> np.ndarray:
    """(n, h, w) -> (n,) boolean: whether any square of a map is faint."""
    return ((maps > 0) & (maps < limit)).any((1, 2))


# Sums are of single additions in a stated order, so that all processors judge alike: the order in
# which numpy's own sums add depends on its version and on the instruction set.


def _mean_squares(images: np.ndarray) -> np.ndarray:
    """Means over channels, in the images' dtype: (n, h, w, c) -> (n, h, w)."""
    channels = [np.square(images[..., channel]) for channel in range(images.shape[3])]
    return functools.reduce(np.add, channels) / images.dtype.type(len(channels))


def _patch_sums(maps: np.ndarray) -> np.ndarray:
    """Sums over 3x3 pixels, with zeros outside: (n, h, w) -> (n, h, w)."""
    for axis in (1, 2):
        padded = np.pad(maps, [(int(axis == other),) * 2 for other in range(3)])
        first, second, third = (
            padded.take(np.arange(maps.shape[axis]) + start, axis) for start in range(3)
        )
        maps = first + second + third
    return maps
