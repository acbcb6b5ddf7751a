"""The engine for fully connected kernels, on any device.

The feature of an image is its mean square. On CPUs the arithmetic on pairs is native code, if its
library is available and correct; elsewhere everything is plain JAX.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
from absl import logging
from jax import Array

from kipper.common.architecture import KernelSpec
from kipper.common.precision import enable_x64
from kipper.workers import dense, dense_cpu
from kipper.workers.arithmetic import native_arithmetic, xla_arithmetic
from kipper.workers.dense import DenseNetwork, dense_network
from kipper.workers.engine import PreparedImages, Pullback

# Between native code and plain JAX, relative. Correct code was within a hundredth of these.
_TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


_KernelVjp = Callable[..., tuple[Array, Array, Array]]


def unavailable() -> str | None:
    """None: plain JAX runs everywhere."""
    return None


@functools.lru_cache(maxsize=8)
def make_engine(spec: KernelSpec, threads: int) -> "DenseEngine":
    """The engine for `spec`, one for all workers of a process."""
    on_cpu = jax.default_backend() == "cpu"
    missing = dense_cpu.unavailable() if on_cpu else None
    if missing:
        logging.warning("%s Using plain JAX instead, which is slower.", missing)
    if not on_cpu or missing or not _native_is_right(spec.kind, spec.dtype):
        return DenseEngine(xla_arithmetic(), spec, dense.kernel, dense.kernel_vjp)
    return DenseEngine(
        f"{native_arithmetic()} and {xla_arithmetic()}",
        spec,
        functools.partial(dense_cpu.kernel, threads=threads),
        functools.partial(dense_cpu.kernel_vjp, threads=threads),
    )


class DenseEngine:
    """Fully connected kernels, with the pair arithmetic that is given; see `Engine`."""

    name = "dense"

    def __init__(
        self,
        arithmetic: str,
        spec: KernelSpec,
        kernel: Callable[..., Array],
        kernel_vjp: _KernelVjp,
    ):
        self.arithmetic = arithmetic
        network = dense_network(spec.architecture)
        assert network is not None  # the table of engines says so

        def images_vjp(
            gaps: Array, x1: Array, q1: Array, x2: Array, q2: Array, cotangent: Array, both: bool
        ) -> tuple[Array, ...]:
            of_gram, of_q1, of_q2 = kernel_vjp(network, spec.kind, gaps, q1, q2, cotangent)
            first = dense.images_vjp(of_gram, of_q1, x1, x2)
            return (first, dense.images_vjp(of_gram.T, of_q2, x2, x1)) if both else (first,)

        self._x64 = spec.dtype == "float64"
        self._input_gaps = jax.jit(dense.input_gaps)
        self._kernel = jax.jit(functools.partial(kernel, network, spec.kind))
        self._images_vjp = jax.jit(images_vjp, static_argnames="both")

    def features(self, images: np.ndarray) -> np.ndarray:
        return dense.mean_squares(images)[:, None]

    def block(self, x1: PreparedImages, x2: PreparedImages) -> np.ndarray:
        return self._block(x1, x2)[0]

    def block_vjp(
        self, x1: PreparedImages, x2: PreparedImages, cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        kernel, pullback = self.linearise(x1, x2, both)
        return kernel, pullback(cotangent)

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        kernel, residuals = self._block(x1, x2)

        def pullback(cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
            with enable_x64(self._x64):
                pieces = self._images_vjp(*residuals, cotangent, both=both)
                return tuple(map(np.asarray, pieces))

        return kernel, pullback

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        del both
        gaps = len(x1.images) * len(x2.images) * x1.images.itemsize
        return gaps + sum(array.nbytes for array in _flat(x1, x2))

    def _block(
        self, x1: PreparedImages, x2: PreparedImages
    ) -> tuple[np.ndarray, tuple[Array, ...]]:
        """The kernel; and on the device the gaps, x1, its mean squares, x2, its mean squares."""
        with enable_x64(self._x64):
            inputs = jax.device_put(_flat(x1, x2))
            rounded = np.asarray(self._input_gaps(*inputs))
            gaps = jax.device_put(dense.refined_gaps(rounded, x1.images, x2.images))
            _, q1, _, q2 = inputs
            return np.asarray(self._kernel(gaps, q1, q2)), (gaps, *inputs)


def _flat(x1: PreparedImages, x2: PreparedImages) -> tuple[np.ndarray, ...]:
    return x1.images, x1.features[:, 0], x2.images, x2.features[:, 0]


@functools.lru_cache(maxsize=8)
def _native_is_right(kind: str, dtype: str) -> bool:
    """Compares native code with plain JAX, once per process, and warns if they differ."""
    network, rng = DenseNetwork(hidden=2, w2=2.0, b2=0.01), np.random.default_rng(0)
    gaps = rng.uniform(1e-3, 1.9, (3, 40)).astype(dtype)
    q1, q2 = (rng.uniform(0.5, 2, count).astype(dtype) for count in gaps.shape)
    cotangent = rng.normal(size=gaps.shape).astype(dtype)

    def results(kernel: Callable[..., Array], kernel_vjp: _KernelVjp) -> list[np.ndarray]:
        def all_of(*inputs: Array) -> tuple[Array, ...]:
            return kernel(network, kind, *inputs), *kernel_vjp(network, kind, *inputs, cotangent)

        return list(map(np.asarray, jax.jit(all_of)(gaps, q1, q2)))

    with enable_x64(dtype == "float64"):
        native = results(
            functools.partial(dense_cpu.kernel, threads=1),
            functools.partial(dense_cpu.kernel_vjp, threads=1),
        )
        plain = results(dense.kernel, dense.kernel_vjp)
    errors = [
        float(np.abs(got - want).max() / np.abs(want).max())
        for got, want in zip(native, plain, strict=True)
    ]
    if max(errors) < _TOLERANCE[dtype]:
        return True
    logging.warning(
        "The native fully connected kernels differ from plain JAX by %.1e on this machine. Using "
        "plain JAX instead; please report this with the processor's name.",
        max(errors),
    )
    return False
