"""Fully connected kernels in native code for CPUs.

The functions are those of `dense`, several times faster, with the same bits for any number of
threads, under any version of JAX, and on every processor with fused multiplication and addition.
Products of matrices are those of `common/linalg.py`; the arithmetic on pairs is in
`native/dense_chain.hpp`. Derivation: docs/dense_kernel.md.
"""

from typing import Any

import numpy as np

from kipper.common.architecture import is_tangent
from kipper.common.linalg import matmul
from kipper.workers.dense import HEADROOM, DenseNetwork, product_scales
from kipper.workers.native_library import entry_point, runnable_levels, unavailable

__all__ = [
    "images_vjp",
    "input_gaps",
    "kernel",
    "kernel_vjp",
    "runnable_levels",
    "unavailable",
]


def input_gaps(
    x1: np.ndarray, rms1: np.ndarray, x2: np.ndarray, rms2: np.ndarray, *, threads: int
) -> np.ndarray:
    """(n, m), see `dense.input_gaps`."""
    rows, columns = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    fraction, limit, powers = product_scales(rows.shape[1], rows.dtype)
    exponents = np.clip(np.frexp(rms1)[1] + powers, -limit, limit)
    # Infinite images mean that a run has diverged, which the regression reports.
    with np.errstate(over="ignore", invalid="ignore"):
        scales = np.ldexp(np.ones_like(rms1), -exponents)
        norms1 = np.ldexp(rms1.dtype.type(fraction) * rms1, powers - HEADROOM - exponents)
        gaps = matmul(rows * scales[:, None], columns.T, threads=threads)
        # One factor, so that the gap of x and x' is that of x' and x to the bit.
        gaps *= np.multiply.outer(_inverse(norms1), _inverse(rms2.dtype.type(fraction) * rms2))
        np.clip(gaps, -1, 1, out=gaps)
        return np.subtract(1, gaps, out=gaps)


def kernel(
    network: DenseNetwork,
    kind: str,
    gaps: np.ndarray,
    rms1: np.ndarray,
    rms2: np.ndarray,
    *,
    threads: int,
    level: str | None = None,
) -> np.ndarray:
    """(n, m), see `dense.kernel`.

    `level` is the instruction set, by default the best one.
    """
    call = entry_point("dense", gaps, [gaps.shape], level)
    (values,) = call(gaps, rms1, rms2, **_attributes(network, kind, threads))
    return values


def kernel_vjp(
    network: DenseNetwork,
    kind: str,
    gaps: np.ndarray,
    rms1: np.ndarray,
    rms2: np.ndarray,
    cotangent: np.ndarray,
    *,
    threads: int,
    level: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`dense.kernel_vjp`: cotangents of <x, x'> / d (n, m), and of <x, x> / d (n,) and (m,)."""
    call = entry_point("dense_vjp", gaps, [gaps.shape, rms1.shape, rms2.shape], level)
    of_gram, of_q1, of_q2 = call(gaps, rms1, rms2, cotangent, **_attributes(network, kind, threads))
    return of_gram, of_q1, of_q2


def images_vjp(
    of_gram: np.ndarray, of_q1: np.ndarray, x1: np.ndarray, x2: np.ndarray, *, threads: int
) -> np.ndarray:
    """(n, h, w, c), see `dense.images_vjp`."""
    rows, columns = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    with np.errstate(over="ignore", invalid="ignore"):  # see `input_gaps`
        pulled = matmul(of_gram, columns, threads=threads)
        pulled += (2 * of_q1)[:, None] * rows
        pulled /= rows.dtype.type(rows.shape[1])
        return pulled.reshape(x1.shape)


def _inverse(x: np.ndarray) -> np.ndarray:
    """1 / x, or 0 for 0."""
    return np.divide(1, x, out=np.zeros_like(x), where=x != 0)


def _attributes(network: DenseNetwork, kind: str, threads: int) -> dict[str, Any]:
    """The fields of `Attributes` in native/interface.hpp."""
    return {
        "hidden": network.hidden,
        "w2": network.w2,
        "b2": network.b2,
        "tangent": is_tangent(kind),
        "threads": threads,
    }
