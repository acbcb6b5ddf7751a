"""Which pairs of images nearly coincide as wholes, or have faint patches, from the images alone.

float32 cannot hold the kernels of such pairs, or their gradients (docs/banded_kernel.md, "Images
that nearly coincide"). Pairs that share other patches are found by the engines while they evaluate.
"""

import math
from typing import NamedTuple

import numpy as np

from kipper.common.architecture import Architecture
from kipper.common.linalg import matmul

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
        q1, q2 = (np.square(side).sum(1, dtype=np.float64) for side in (rows, columns))
        smaller = np.minimum.outer(q1, q2) + bias
        distances = np.add.outer(q1, q2) - 2.0 * matmul(rows, columns.T)
        first, second = np.nonzero(distances <= _CANDIDATE * smaller)
        for start in range(0, len(first), _PAIRS_AT_A_TIME):
            pairs = first[start:][:_PAIRS_AT_A_TIME], second[start:][:_PAIRS_AT_A_TIME]
            differences = rows[pairs[0]].astype(np.float64) - columns[pairs[1]]
            exact = np.square(differences).sum(1)
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
    squares = [np.einsum("nhwc,nhwc->nhw", x, x) / x.dtype.type(x.shape[3]) for x in (x1, x2)]
    found = [((side > 0) & (side < limit)).any((1, 2)) for side in squares]
    if not any(side.any() for side in found):
        return False
    sums = [_patch_sums(side) for side in squares]
    faint1, faint2 = (((side > 0) & (side < limit)).any((1, 2)) for side in sums)
    black1, black2 = ((side == 0).any((1, 2)) for side in sums)
    return np.logical_and.outer(faint1, black2) | np.logical_and.outer(black1, faint2)


def _patch_sums(maps: np.ndarray) -> np.ndarray:
    """Sums over 3x3 pixels, with zeros outside: (n, h, w) -> (n, h, w)."""
    for axis in (1, 2):
        padded = np.pad(maps, [(int(axis == other),) * 2 for other in range(3)])
        maps = np.lib.stride_tricks.sliding_window_view(padded, 3, axis).sum(3)
    return maps
