"""Convolutional ReLU kernels over all pixel pairs, in NumPy: short, slow, and ready at once.

The native engine is checked against it before it is used, and shares nothing of its algorithm. The
work grows with the square of the number of pixels, so images must be small.
"""

import numpy as np

from kipper.common.architecture import Architecture, GlobalAvgPool, KernelSpec, is_tangent

# Correlations within so many units of rounding of 1 are 1, as in workers/neural_tangents.py.
_COINCIDENT_EPSILONS = 4


def plain_kernel(spec: KernelSpec, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """K (n, m) of images (n, h, w, c) and (m, h, w, c), in float64.

    Source: Arora et al., "On exact computation with an infinitely wide neural net", 2019, 4.

    Args:
        spec: the spec of a convolutional ReLU network.
        x1: the first images.
        x2: the second images.
    """
    first, second = (
        [(image, _variances(spec.architecture, image)) for image in images.astype(np.float64)]
        for images in (x1, x2)
    )
    return np.array([[_entry(spec, *one, *two) for two in second] for one in first])


def _variances(architecture: Architecture, image: np.ndarray) -> list[np.ndarray]:
    """The variances (h, w) of an image in front of each ReLU."""
    found = []
    covariance = _products(image, image)
    for stage in architecture.stages:
        for _ in range(stage.convs):
            covariance = _convolved(architecture, covariance)
            found.append(np.einsum("hwhw->hw", covariance).copy())
            covariance, _ = _rectified(covariance, found[-1], found[-1])
        covariance = _pooled(covariance) if stage.pooled else covariance
    return found


def _entry(
    spec: KernelSpec, x1: np.ndarray, v1: list[np.ndarray], x2: np.ndarray, v2: list[np.ndarray]
) -> float:
    """The kernel of two images (h, w, c) with their variances; maps are (h, w, h, w)."""
    architecture = spec.architecture
    w2, b2 = architecture.w_std**2, architecture.b_std**2
    covariance = _products(x1, x2)
    tangent = np.zeros_like(covariance)
    variances = zip(v1, v2, strict=True)
    for stage in architecture.stages:
        for _ in range(stage.convs):
            covariance = _convolved(architecture, covariance)
            tangent = covariance + w2 / 9 * _box(tangent)
            covariance, slopes = _rectified(covariance, *next(variances))
            tangent *= slopes
        if stage.pooled:
            covariance, tangent = _pooled(covariance), _pooled(tangent)
    read = "hwHW->" if GlobalAvgPool() in architecture.layers else "hwhw->"
    pairs = np.einsum(read, np.ones_like(covariance))
    last, carried = (w2 * np.einsum(read, of) / pairs for of in (covariance, tangent))
    return float(last + b2 + (carried if is_tangent(spec.kind) else 0.0))


def _products(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return np.einsum("hwc,HWc->hwHW", x1, x2) / x1.shape[2]


def _convolved(architecture: Architecture, covariance: np.ndarray) -> np.ndarray:
    return architecture.w_std**2 / 9 * _box(covariance) + architecture.b_std**2


def _box(values: np.ndarray) -> np.ndarray:
    """Sums over the 3x3 windows that move together in both images."""
    for row, row2 in ((0, 2), (1, 3)):
        padded = np.pad(values, [(1, 1) if axis in (row, row2) else (0, 0) for axis in range(4)])
        values = sum(
            np.take(
                np.take(padded, range(d, d + values.shape[row]), row),
                range(d, d + values.shape[row2]),
                row2,
            )
            for d in range(3)
        )
    return values


def _rectified(
    covariance: np.ndarray, v1: np.ndarray, v2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The covariance behind a ReLU, and that of its slopes."""
    deviations = np.sqrt(np.multiply.outer(v1, v2))
    c = np.clip(covariance / deviations, -1, 1)
    c[c > 1 - _COINCIDENT_EPSILONS * np.finfo(np.float64).eps] = 1
    angle = np.pi - np.arccos(c)
    return deviations * (np.sqrt(1 - c * c) + angle * c) / (2 * np.pi), angle / (2 * np.pi)


def _pooled(values: np.ndarray) -> np.ndarray:
    """Means over 2x2 windows of both images; an odd last row or column is dropped."""
    for axis in range(4):
        half = values.shape[axis] // 2
        values = values.take(range(0, 2 * half, 2), axis) + values.take(range(1, 2 * half, 2), axis)
    return values / 16
