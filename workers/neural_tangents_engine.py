"""The reference engine: any architecture, on any device, by neural-tangents in float64.

In float32 the library loses the distance of images that are close (an error of 1e-7 in a
correlation is one of 3e-4 in a tangent kernel), and takes overflow for a correlation of 0. On CPUs
float32 is not faster for networks with pools. So float32 kernels are computed in float64 and
rounded at the end.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kipper.common.architecture import KernelSpec
from kipper.common.precision import enable_x64
from kipper.common.this_python import lacking_neural_tangents
from kipper.workers.arithmetic import xla_arithmetic
from kipper.workers.engine import PreparedImages, Pullback


def unavailable() -> str | None:
    """One sentence if the library is not installed."""
    lacking = lacking_neural_tangents()
    if lacking is None:
        return None
    return f"neural-tangents {lacking}. Architectures with ReLU do not need it."


def make_engine(spec: KernelSpec, threads: int) -> "NeuralTangentsEngine":
    """The engine for `spec`, one for all workers of a process; XLA chooses its own threads."""
    del threads
    return _engine(spec)


@functools.lru_cache(maxsize=8)
def _engine(spec: KernelSpec) -> "NeuralTangentsEngine":
    return NeuralTangentsEngine(spec)


class NeuralTangentsEngine:
    """Any kernel; prepares no features. See `Engine`."""

    name = "neural_tangents"

    def __init__(self, spec: KernelSpec):
        from kipper.workers.neural_tangents import kernel_function  # imports the library

        self.arithmetic = f"float64 of {xla_arithmetic()}"
        exact = kernel_function(spec)

        def kernel(x1: Array, x2: Array) -> Array:
            return exact(x1.astype(jnp.float64), x2.astype(jnp.float64)).astype(spec.dtype)

        def linearise(
            x1: Array, x2: Array, both: bool
        ) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
            if both:
                return jax.vjp(kernel, x1, x2)
            return jax.vjp(lambda rows: kernel(rows, x2), x1)

        def block_vjp(
            x1: Array, x2: Array, cotangent: Array, both: bool
        ) -> tuple[Array, tuple[Array, ...]]:
            value, pullback = linearise(x1, x2, both)
            return value, pullback(cotangent)

        self._block = jax.jit(kernel)
        self._linearise = jax.jit(linearise, static_argnames="both")
        self._block_vjp = jax.jit(block_vjp, static_argnames="both")
        self._pull = jax.jit(lambda pullback, cotangent: pullback(cotangent))
        self._residual_bytes: dict[tuple[object, ...], int] = {}

    def features(self, images: np.ndarray) -> np.ndarray:
        return np.empty((len(images), 0), images.dtype)

    def block(self, x1: PreparedImages, x2: PreparedImages) -> np.ndarray:
        with enable_x64():
            return np.asarray(self._block(x1.images, x2.images))

    def block_vjp(
        self, x1: PreparedImages, x2: PreparedImages, cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        with enable_x64():
            value, pieces = self._block_vjp(x1.images, x2.images, cotangent, both=both)
            return np.asarray(value), tuple(map(np.asarray, pieces))

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        with enable_x64():
            kernel, residuals = self._linearise(x1.images, x2.images, both=both)

        def pullback(cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
            with enable_x64():
                return tuple(map(np.asarray, self._pull(residuals, cotangent)))

        return np.asarray(kernel), pullback

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        shapes = (x1.images.shape, x2.images.shape, both)
        if shapes not in self._residual_bytes:
            with enable_x64():
                _, residuals = jax.eval_shape(
                    functools.partial(self._linearise, both=both), x1.images, x2.images
                )
            self._residual_bytes[shapes] = sum(
                math.prod(leaf.shape) * leaf.dtype.itemsize
                for leaf in jax.tree_util.tree_leaves(residuals)
            )
        return self._residual_bytes[shapes]
