"""Convolutional kernels of image pairs over a band of pixel offsets, in native code for CPUs.

The functions are those of `banded_xla`, many times faster. Their C++ is in `native/`.
Derivation: docs/banded_kernel.md.
"""

import itertools
from typing import Any

import numpy as np

from kipper.common.architecture import is_tangent
from kipper.workers import native_library
from kipper.workers.bands import BandedNetwork, Side
from kipper.workers.native_library import entry_point, level_for, runnable_levels, unavailable

__all__ = [
    "cross_kernel",
    "cross_kernel_vjp",
    "judged_cross_kernel",
    "kept_values",
    "linearised_cross_kernel",
    "listed_kernels",
    "listed_kernels_vjp",
    "runnable_levels",
    "unavailable",
    "variance_maps",
    "variance_maps_vjp",
]


def variance_maps(
    network: BandedNetwork, images: np.ndarray, *, threads: int = 1, level: str | None = None
) -> np.ndarray:
    """(n, h, w, c) -> (n, network.variances_per_image), see `banded_xla.variance_maps`."""
    shape = (images.shape[0], network.variances_per_image)
    level = level or level_for(images.dtype, len(images), rows=1, threads=threads)
    call = entry_point("variance_maps", images, [shape], level)
    (variances,) = call(images, **_variance_attributes(network, threads))
    return variances


def variance_maps_vjp(
    network: BandedNetwork,
    images: np.ndarray,
    cotangent: np.ndarray,
    *,
    threads: int = 1,
    level: str | None = None,
) -> np.ndarray:
    """Pulls a cotangent (n, network.variances_per_image) of `variance_maps` back: (n, h, w, c)."""
    level = level or level_for(images.dtype, len(images), rows=1, threads=threads)
    call = entry_point("variance_maps_vjp", images, [images.shape], level)
    (pulled,) = call(images, cotangent, **_variance_attributes(network, threads))
    return pulled


def cross_kernel(
    network: BandedNetwork,
    kind: str,
    x1: np.ndarray,
    v1: np.ndarray,
    x2: np.ndarray,
    v2: np.ndarray,
    *,
    threads: int,
    level: str | None = None,
) -> np.ndarray:
    """(n1, n2), see `banded_xla.cross_kernel`; its bits do not depend on `threads`.

    `level` is the instruction set, by default the best one.
    """
    return judged_cross_kernel(network, kind, x1, v1, x2, v2, threads=threads, level=level)[0]


def judged_cross_kernel(
    network: BandedNetwork,
    kind: str,
    x1: np.ndarray,
    v1: np.ndarray,
    x2: np.ndarray,
    v2: np.ndarray,
    *,
    threads: int,
    level: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`cross_kernel`, and whether pairs are endangered, (n1, n2) boolean; never in float64."""
    level = level or level_for(x2.dtype, len(x2), rows=len(x1), threads=threads)
    kernel, _, endangered = _cross(network, kind, (x1, v1, x2, v2), 0, threads, level)
    return kernel, endangered


def linearised_cross_kernel(
    network: BandedNetwork,
    kind: str,
    x1: np.ndarray,
    v1: np.ndarray,
    x2: np.ndarray,
    v2: np.ndarray,
    *,
    threads: int,
    level: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`cross_kernel`, values (kept_values,) that save `cross_kernel_vjp` work, endangered pairs."""
    level = level or level_for(x2.dtype, len(x2))
    size = kept_values(network, kind, len(x1), len(x2), x1.dtype, level)
    return _cross(network, kind, (x1, v1, x2, v2), size, threads, level)


def kept_values(
    network: BandedNetwork, kind: str, n1: int, n2: int, dtype: Any, level: str | None = None
) -> int:
    """The number of values that `linearised_cross_kernel` keeps: the outputs of stages."""
    lanes = native_library.lanes(dtype, level or level_for(np.dtype(dtype), n2))
    maps = 2 if is_tangent(kind) else 1
    return maps * network.stage_outputs * n1 * -(-n2 // lanes) * lanes


def cross_kernel_vjp(
    network: BandedNetwork,
    kind: str,
    x1: np.ndarray,
    v1: np.ndarray,
    x2: np.ndarray,
    v2: np.ndarray,
    cotangent: np.ndarray,
    *,
    both: bool,
    threads: int,
    kept: np.ndarray | None = None,
    level: str | None = None,
) -> tuple[np.ndarray, ...]:
    """`judged_cross_kernel`, and its cotangent (n1, n2) pulled back, in one pass over the pairs.

    `kept`, from `linearised_cross_kernel` with the same inputs, saves time and changes no bit if
    the cotangents of endangered pairs are 0. Not all of these are then found again.

    Returns:
        The kernel (n1, n2), with the bits of `cross_kernel`; whether pairs are endangered, (n1, n2)
        boolean; the cotangents of x1 and v1, and those of x2 and v2 if `both`, to which endangered
        pairs add nothing. Variance maps count as separate inputs.
    """
    second = (x2.shape, v2.shape) if both else ((0,), (0,))
    level = level or level_for(x2.dtype, len(x2))
    shapes = [cotangent.shape, cotangent.shape, x1.shape, v1.shape, *second]
    call = entry_point("cross_vjp", x1, shapes, level)
    attributes = _cross_attributes(network, kind, threads, both)
    given = np.empty(0, x1.dtype) if kept is None else kept
    kernel, endangered, *cotangents = call(x1, v1, x2, v2, given, cotangent, **attributes)
    return kernel, endangered > 0, *(cotangents if both else cotangents[:2])


def listed_kernels(
    network: BandedNetwork,
    kind: str,
    x1: np.ndarray,
    v1: np.ndarray,
    x2: np.ndarray,
    v2: np.ndarray,
    *,
    threads: int,
    level: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`judged_cross_kernel` of pairs alone: of x1[i] with x2[i], with the same bits; (n,) each."""
    level = level or level_for(x1.dtype, len(x1), rows=1, threads=threads)
    call = entry_point("listed", x1, [(len(x1),)] * 2, level)
    kernels, endangered = call(x1, v1, x2, v2, **_cross_attributes(network, kind, threads))
    return kernels, endangered > 0


def listed_kernels_vjp(
    network: BandedNetwork,
    kind: str,
    x1: np.ndarray,
    v1: np.ndarray,
    x2: np.ndarray,
    v2: np.ndarray,
    cotangent: np.ndarray,
    *,
    threads: int,
    level: str | None = None,
) -> tuple[np.ndarray, ...]:
    """`listed_kernels`, and their cotangents (n,) pulled back, each pair's apart.

    Returns:
        The kernels (n,); whether pairs are endangered, (n,) boolean; the cotangents of x1, v1, x2
        and v2, which are 0 for endangered pairs.
    """
    level = level or level_for(x1.dtype, len(x1), rows=1, threads=threads)
    pulled = [each.shape for each in (x1, v1, x2, v2)]
    call = entry_point("listed_vjp", x1, [cotangent.shape] * 2 + pulled, level)
    attributes = _cross_attributes(network, kind, threads)
    kernels, endangered, *cotangents = call(x1, v1, x2, v2, cotangent, **attributes)
    return kernels, endangered > 0, *cotangents


def _cross(
    network: BandedNetwork,
    kind: str,
    images: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    kept: int,
    threads: int,
    level: str | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x1, _, x2, _ = images
    pairs = x1.shape[0], x2.shape[0]
    call = entry_point("cross", x1, [pairs, pairs, (kept,)], level)
    kernel, endangered, values = call(*images, **_cross_attributes(network, kind, threads))
    return kernel, values, endangered > 0


def _attributes(
    network: BandedNetwork, bands: tuple[Side, ...], *, tangent: bool, both: bool, threads: int
) -> dict[str, Any]:
    """The fields of `Attributes` in native/interface.hpp."""
    return {
        "convs": tuple(stage.convs for stage in network.stages),
        "pooled": tuple(int(stage.pooled) for stage in network.stages),
        "sizes": tuple(itertools.chain(*network.sizes)),
        "bands": tuple(itertools.chain(*bands)),
        "global_average": network.global_average,
        "w2": network.w2,
        "b2": network.b2,
        "tangent": tangent,
        "both": both,
        "threads": threads,
    }


def _cross_attributes(
    network: BandedNetwork, kind: str, threads: int, both: bool = False
) -> dict[str, Any]:
    tangent = is_tangent(kind)
    return _attributes(network, network.bands, tangent=tangent, both=both, threads=threads)


def _variance_attributes(network: BandedNetwork, threads: int) -> dict[str, Any]:
    bands = (*network.variance_bands, (0, 0))  # nothing is read behind the last ReLU
    return _attributes(network, bands, tangent=False, both=False, threads=threads)
