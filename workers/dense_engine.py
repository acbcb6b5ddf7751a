"""The engine for fully connected kernels, on any device.

The feature of an image is its root mean square. On CPUs native code computes, if its library is
available and correct; elsewhere everything is plain JAX. In float32, pairs of images that are close
are evaluated in float64, and blocks with such pairs are float64.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from absl import logging
from jax import Array

from kipper.common.architecture import KernelSpec
from kipper.common.precision import enable_x64
from kipper.workers import dense, dense_cpu
from kipper.workers.arithmetic import dense_arithmetic, xla_arithmetic
from kipper.workers.dense import ClosePairs, DenseNetwork, dense_network
from kipper.workers.engine import PreparedImages, Pullback

# Largest relative differences between native code and plain JAX. Those of correct code were at
# most a hundredth of these.
_TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


_AnyArray = np.ndarray | Array


class Functions(NamedTuple):
    """The functions of `dense` for one network and kind, by native code or by JAX.

    Attributes:
        put: moves arrays to where the others compute.
        input_gaps: of x1, rms1, x2, rms2.
        kernel: of gaps, rms1, rms2.
        images_vjp: the cotangents of x1, and of x2 if `both`, from gaps, x1, rms1, x2, rms2, the
            cotangent of the kernel, and both=.
    """

    put: Callable[[tuple[np.ndarray, ...]], tuple[_AnyArray, ...]]
    input_gaps: Callable[..., _AnyArray]
    kernel: Callable[..., _AnyArray]
    images_vjp: Callable[..., tuple[_AnyArray, ...]]


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
        return plain_engine(spec)
    functions = _native_functions(_network(spec), spec.kind, threads)
    exact = functools.partial(make_engine, spec.in_float64, threads)
    return DenseEngine(spec, dense_arithmetic(), functions, exact, threads)


@functools.lru_cache(maxsize=8)
def plain_engine(spec: KernelSpec) -> "DenseEngine":
    """The engine in plain JAX, one for all workers of a process, which compiles once."""
    functions = _plain_functions(_network(spec), spec.kind)
    exact = functools.partial(plain_engine, spec.in_float64)
    return DenseEngine(spec, f"formulas 2 by {xla_arithmetic()}", functions, exact)


def _network(spec: KernelSpec) -> DenseNetwork:
    network = dense_network(spec.architecture)
    assert network is not None  # the table of engines says so
    return network


def _native_functions(network: DenseNetwork, kind: str, threads: int) -> Functions:
    kernel_vjp = functools.partial(dense_cpu.kernel_vjp, network, kind, threads=threads)
    images_vjp = functools.partial(dense_cpu.images_vjp, threads=threads)
    return Functions(
        lambda arrays: arrays,
        functools.partial(dense_cpu.input_gaps, threads=threads),
        functools.partial(dense_cpu.kernel, network, kind, threads=threads),
        functools.partial(_images_vjp, kernel_vjp, images_vjp),
    )


def _plain_functions(network: DenseNetwork, kind: str) -> Functions:
    kernel_vjp = functools.partial(dense.kernel_vjp, network, kind)
    return Functions(
        jax.device_put,
        jax.jit(dense.input_gaps),
        jax.jit(functools.partial(dense.kernel, network, kind)),
        jax.jit(
            functools.partial(_images_vjp, kernel_vjp, dense.images_vjp), static_argnames="both"
        ),
    )


def _images_vjp(
    kernel_vjp: Callable[..., tuple[_AnyArray, ...]],
    images_vjp: Callable[..., _AnyArray],
    gaps: _AnyArray,
    x1: _AnyArray,
    rms1: _AnyArray,
    x2: _AnyArray,
    rms2: _AnyArray,
    cotangent: _AnyArray,
    both: bool,
) -> tuple[_AnyArray, ...]:
    of_gram, of_q1, of_q2 = kernel_vjp(gaps, rms1, rms2, cotangent)
    first = images_vjp(of_gram, of_q1, x1, x2)
    return (first, images_vjp(of_gram.T, of_q2, x2, x1)) if both else (first,)


class DenseEngine:
    """Fully connected kernels, with the functions that are given; see `Engine`."""

    name = "dense"

    def __init__(
        self,
        spec: KernelSpec,
        arithmetic: str,
        functions: Functions,
        exact: Callable[[], "DenseEngine"],
        threads: int = 1,
    ):
        """`exact` makes the engine for the same kernel in float64."""
        self.arithmetic = arithmetic
        self._network = _network(spec)
        self._functions = functions
        self._exact = exact
        self._threads = threads
        self._x64 = spec.dtype == "float64"

    def features(self, images: np.ndarray) -> np.ndarray:
        return dense.root_mean_squares(images)[:, None]

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
        kernel, residuals, close = self._block(x1, x2)

        def pullback(cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
            if close is None:
                return self._pulled(residuals, cotangent, both)
            of_close = np.where(close.pairs, cotangent[close.block()], 0)
            others = cotangent.copy()
            others[close.block()] -= of_close
            pieces = tuple(map(np.array, self._pulled(residuals, others, both)))
            engine, first, second = self._in_float64(close, x1, x2)
            _, exact = engine.block_vjp(first, second, of_close.astype(np.float64), both)
            with np.errstate(over="ignore"):
                for piece, chosen, rest in zip(pieces, close, exact, strict=False):
                    piece[chosen] += rest
            return pieces

        return kernel, pullback

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        del both
        gaps = len(x1.images) * len(x2.images) * x1.images.itemsize
        return gaps + sum(array.nbytes for array in _flat(x1, x2))

    def _block(
        self, x1: PreparedImages, x2: PreparedImages
    ) -> tuple[np.ndarray, tuple[_AnyArray, ...], ClosePairs | None]:
        """The kernel; gaps, x1, its features, x2 and its features on the device; close pairs."""
        with enable_x64(self._x64):
            inputs = self._functions.put(_flat(x1, x2))
            rounded = np.asarray(self._functions.input_gaps(*inputs))
            refined = dense.refined_gaps(rounded, x1.images, x2.images, self._threads)
            (gaps,) = self._functions.put((refined,))
            _, rms1, _, rms2 = inputs
            kernel = np.asarray(self._functions.kernel(gaps, rms1, rms2))
        close = None
        if not self._x64:
            _, rms1, _, rms2 = _flat(x1, x2)
            close = dense.close_pairs(self._network, refined, rms1, rms2, x1.crowded, x2.crowded)
        if close is not None:
            engine, first, second = self._in_float64(close, x1, x2)
            kernel, exact = kernel.astype(np.float64), engine.block(first, second)
            kernel[close.block()] = np.where(close.pairs, exact, kernel[close.block()])
        return kernel, (gaps, *inputs), close

    def _pulled(
        self, residuals: tuple[_AnyArray, ...], cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, ...]:
        with enable_x64(self._x64):
            pieces = self._functions.images_vjp(*residuals, cotangent, both=both)
            return tuple(map(np.asarray, pieces))

    def _in_float64(
        self, close: ClosePairs, x1: PreparedImages, x2: PreparedImages
    ) -> tuple["DenseEngine", PreparedImages, PreparedImages]:
        """The engine for close pairs, and their images of both batches."""
        engine = self._exact()
        chosen = (x1.images[close.rows], x2.images[close.columns])
        first, second = (images.astype(np.float64) for images in chosen)
        return (
            engine,
            PreparedImages(first, engine.features(first)),
            PreparedImages(second, engine.features(second)),
        )


def _flat(x1: PreparedImages, x2: PreparedImages) -> tuple[np.ndarray, ...]:
    return x1.images, x1.features[:, 0], x2.images, x2.features[:, 0]


@functools.lru_cache(maxsize=8)
def _native_is_right(kind: str, dtype: str) -> bool:
    """Compares native code with plain JAX, once per process, and warns if they differ."""
    network, rng = DenseNetwork(hidden=2, w2=2.0, b2=0.01), np.random.default_rng(0)
    x1, x2 = (rng.normal(size=(count, 3, 2, 1)).astype(dtype) for count in (3, 40))
    inputs = x1, dense.root_mean_squares(x1), x2, dense.root_mean_squares(x2)
    cotangent = rng.normal(size=(3, 40)).astype(dtype)

    def results(functions: Functions) -> list[np.ndarray]:
        gaps = functions.input_gaps(*inputs)
        kernel = functions.kernel(gaps, inputs[1], inputs[3])
        pulled = functions.images_vjp(gaps, *inputs, cotangent, both=True)
        return [np.asarray(array) for array in (gaps, kernel, *pulled)]

    with enable_x64(dtype == "float64"):
        native = results(_native_functions(network, kind, 1))
        plain = results(_plain_functions(network, kind))
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
