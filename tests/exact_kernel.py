"""Kernels of ReLU networks to fifty digits: all pixel pairs, in decimal arithmetic.

It shares no code with the engines, and tells how far float64 itself can be trusted where images
nearly coincide. For images of a few pixels: the time grows with the square of their number.
"""

import decimal
import functools
from decimal import Decimal

import numpy as np

from kipper.common.architecture import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    KernelSpec,
    Relu,
)

_CONTEXT = decimal.Context(prec=50)
# Steps of this length are far below any closeness of float32 images, and far above the rounding.
_STEP = Decimal("1e-15")
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def exact_kernel(spec: KernelSpec, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """The kernel (2, 2) of two images (h, w, c), in Decimal."""
    with decimal.localcontext(_CONTEXT):
        images = [_decimals(x) for x in (x1, x2)]
        return _kernel(spec, images[0], images[1])


def exact_derivative(spec: KernelSpec, images: np.ndarray, direction: np.ndarray) -> float:
    """Of K(images[0], images[1]) along `direction`; both (2, h, w, c). By central differences."""
    with decimal.localcontext(_CONTEXT):
        at, towards = _decimals(images), _decimals(direction) * _STEP
        ahead, behind = (_kernel(spec, *moved)[0, 1] for moved in (at + towards, at - towards))
        return float((ahead - behind) / (2 * _STEP))


def distance(kernel: np.ndarray) -> float:
    """1 - cos of a pair by its kernel (2, 2) in Decimal."""
    with decimal.localcontext(_CONTEXT):
        return float(1 - kernel[0, 1] / (kernel[0, 0] * kernel[1, 1]).sqrt())


def _decimals(array: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: Decimal(float(value)), otypes=[object])(array)


def _kernel(spec: KernelSpec, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    w2, b2 = (Decimal(value) ** 2 for value in (spec.architecture.w_std, spec.architecture.b_std))
    # Covariances and tangent kernels [pair, h, w, h, w] of the pairs 11, 12 and 22.
    k = _for_pairs(lambda a, b: np.tensordot(a, b, ([2], [2])) / x1.shape[2], x1, x2)
    n = 0 * k
    for layer in spec.architecture.layers:
        match layer:
            case Conv():
                k = w2 / 9 * _box_sum(k) + b2
                n = w2 / 9 * _box_sum(n) + k
            case Relu():
                v1, _, v2 = _diagonal(k)
                k, n = _relu(k, n, _for_pairs(np.multiply.outer, v1, v2))
            case AvgPool():
                k, n = _pool(k), _pool(n)
            case Flatten():
                k, n = (_diagonal(array).mean((1, 2)).reshape(3, 1, 1, 1, 1) for array in (k, n))
            case GlobalAvgPool():
                k, n = (array.mean((1, 2, 3, 4), keepdims=True) for array in (k, n))
            case Dense():
                k = w2 * k + b2
                n = w2 * n + k
            case _:
                raise ValueError(layer)
    first, cross, second = (n if spec.kind == "ntk" else k).ravel()
    return np.array([[first, cross], [cross, second]])


def _for_pairs(function, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([function(first, first), function(first, second), function(second, second)])


def _diagonal(array: np.ndarray) -> np.ndarray:
    """[pair, h, w, h, w] -> [pair, h, w]: each pixel with itself."""
    return np.einsum("pijij->pij", array)


def _box_sum(array: np.ndarray) -> np.ndarray:
    """Over the nine neighbours of both pixels together; pixels outside the images are 0."""
    height, width = array.shape[1:3]
    padded = np.pad(array, [(0, 0)] + [(1, 1)] * 4, constant_values=Decimal(0))
    windows = [(slice(i, i + height), slice(j, j + width)) for i in range(3) for j in range(3)]
    return sum(padded[(slice(None), *window, *window)] for window in windows)


def _pool(array: np.ndarray) -> np.ndarray:
    """Means over 2x2 pixels of either image; an odd last row or column is left out."""
    height, width = (side // 2 for side in array.shape[1:3])
    kept = array[:, : 2 * height, : 2 * width, : 2 * height, : 2 * width]
    return kept.reshape(3, height, 2, width, 2, height, 2, width, 2).sum((2, 4, 6, 8)) / 16


@functools.partial(np.vectorize, otypes=[object, object])
def _relu(k: Decimal, n: Decimal, product: Decimal) -> tuple[Decimal, Decimal]:
    """E[relu(u) relu(u')] and n E[relu'(u) relu'(u')], of covariance k and variances v v'."""
    if not product:
        return Decimal(0), Decimal(0)
    s = product.sqrt()
    c = max(min(k / s, Decimal(1)), Decimal(-1))
    obtuse = _PI - _angle(c)
    return (s * (1 - c * c).sqrt() + k * obtuse) / (2 * _PI), n * obtuse / (2 * _PI)


def _angle(cosine: Decimal) -> Decimal:
    if cosine < 0:
        return _PI - _angle(-cosine)
    sine = (1 - cosine * cosine).sqrt()
    doubled = 1
    while abs(sine) > Decimal("0.05"):  # halve the angle
        cosine = ((1 + cosine) / 2).sqrt()
        sine /= 2 * cosine
        doubled *= 2
    # The series of the arcsine.
    term = total = sine
    square, i = sine * sine, 1
    while abs(term) > Decimal("1e-52") * abs(total):
        term *= square * i * i / ((i + 1) * (i + 2))
        total += term
        i += 2
    return doubled * total
