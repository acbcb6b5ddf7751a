"""The arithmetic of fully connected kernels behind the matrix product, in native code for CPUs.

The functions are `dense.kernel` and `dense.kernel_vjp`, several times faster. Their C++ is in
`native/dense_chain.hpp`. Derivation: docs/dense_kernel.md.
"""

from typing import Any

import numpy as np
from jax import Array

from kipper.common.architecture import is_tangent
from kipper.workers.dense import DenseNetwork
from kipper.workers.native_library import entry_point, runnable_levels, unavailable

__all__ = ["kernel", "kernel_vjp", "runnable_levels", "unavailable"]


def kernel(
    network: DenseNetwork,
    kind: str,
    gaps: Array,
    q1: Array,
    q2: Array,
    *,
    threads: int,
    level: str | None = None,
) -> Array:
    """(n, m), see `dense.kernel`; its bits do not depend on `threads`.

    `level` is the instruction set, by default the best one.
    """
    call = entry_point("dense", gaps, [gaps.shape], level)
    (values,) = call(gaps, q1, q2, **_attributes(network, kind, threads))
    return values


def kernel_vjp(
    network: DenseNetwork,
    kind: str,
    gaps: Array,
    q1: Array,
    q2: Array,
    cotangent: Array,
    *,
    threads: int,
    level: str | None = None,
) -> tuple[Array, Array, Array]:
    """`dense.kernel_vjp`: cotangents of <x, x'> / d (n, m), of q1 (n,) and of q2 (m,)."""
    call = entry_point("dense_vjp", gaps, [gaps.shape, q1.shape, q2.shape], level)
    return tuple(call(gaps, q1, q2, cotangent, **_attributes(network, kind, threads)))


def _attributes(network: DenseNetwork, kind: str, threads: int) -> dict[str, Any]:
    """The fields of `DenseAttributes` in native/handlers.cpp."""
    return {
        "hidden": np.int64(network.hidden),
        "w2": np.float64(network.w2),
        "b2": np.float64(network.b2),
        "tangent": is_tangent(kind),
        "threads": np.int64(threads),
    }
