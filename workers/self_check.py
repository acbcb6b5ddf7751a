"""The check that native banded kernels must pass on a machine before they are used there.

K is compared with a plain computation over all pixel pairs, which needs no compilation. The
gradient is compared with finite differences of K in float64.
"""

import functools
from collections.abc import Callable

import numpy as np

from kipper.common.architecture import KernelSpec
from kipper.common.errors import WorkerError
from kipper.workers.engine import Engine, PreparedImages
from kipper.workers.plain_kernel import plain_kernel

# Largest errors, relative to the largest entry. Those of correct kernels, up to ten layers deep,
# were at most a thirtieth of these.
_KERNEL_TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
_GRADIENT_TOLERANCE = {"float32": 2e-3, "float64": 1e-5}

_DIRECTIONS = 6
_STEP = 1e-5


@functools.lru_cache(maxsize=8)
def check_native(spec: KernelSpec, make: Callable[[KernelSpec, int], Engine]) -> None:
    """Checks the engine that `make(spec, threads)` returns on small images, once per process.

    Raises:
        WorkerError: its kernel or its gradient is wrong.
    """
    rng = np.random.default_rng(0)
    images = small_images(spec, rng)
    native = make(spec, 1)
    first, every = images[:2].astype(spec.dtype), images.astype(spec.dtype)
    got, want = _block(native, first, every), plain_kernel(spec, first, every)
    _compare("kernel", got, want, "plain NumPy", _KERNEL_TOLERANCE[spec.dtype])

    x1, x2 = images[:2], images[2:]  # disjoint, because K has a kink where images coincide
    exact = make(spec.in_float64, 1)
    g1, g2 = _gradient(native, x1.astype(spec.dtype), x2.astype(spec.dtype), both=True)
    slopes, differences = [], []
    for _ in range(_DIRECTIONS):
        u1, u2 = rng.normal(size=x1.shape), rng.normal(size=x2.shape)
        ahead, behind = (_block(exact, x1 + h * u1, x2 + h * u2).sum() for h in (_STEP, -_STEP))
        slopes.append(np.sum(g1 * u1) + np.sum(g2 * u2))
        differences.append((ahead - behind) / (2 * _STEP))
    tolerance = _GRADIENT_TOLERANCE[spec.dtype]
    got, want = np.array(slopes), np.array(differences)
    _compare("gradient", got, want, "the differences of its kernel", tolerance)
    (alone,) = _gradient(native, x1.astype(spec.dtype), x2.astype(spec.dtype), both=False)
    _compare("gradient of one side", alone, g1, "that of both", tolerance)
    same = _prepared(native, every)  # an engine may evaluate half of its pairs with itself
    got, pulled = native.block_vjp(same, same, np.ones((len(every),) * 2, spec.dtype), both=True)
    want, others = _block(native, every, every), _gradient(native, every, every, both=True)
    _compare("symmetric kernel", got, want, "that of others", _KERNEL_TOLERANCE[spec.dtype])
    _compare("symmetric kernel's gradient", pulled[0], others[0], "that of others", tolerance)


def small_images(spec: KernelSpec, rng: np.random.Generator) -> np.ndarray:
    """Five images in float64, of the smallest side that the network's pools divide, at least 4."""
    side = max(4, 2**spec.architecture.num_pools)
    return rng.normal(size=(5, side, side, 2))


def _prepared(engine: Engine, images: np.ndarray) -> PreparedImages:
    return PreparedImages(images, engine.features(images))


def _block(engine: Engine, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return engine.block(_prepared(engine, x1), _prepared(engine, x2))


def _gradient(engine: Engine, x1: np.ndarray, x2: np.ndarray, both: bool) -> tuple[np.ndarray, ...]:
    ones = np.ones((len(x1), len(x2)), x1.dtype)
    return engine.block_vjp(_prepared(engine, x1), _prepared(engine, x2), ones, both)[1]


def _compare(
    what: str, got: np.ndarray, want: np.ndarray, reference: str, tolerance: float
) -> None:
    error = float(np.abs(got - want).max() / np.abs(want).max())
    if not error < tolerance:
        raise WorkerError(
            f"The native engine's {what} differs from {reference} by {error:.1e} on this machine; "
            "give --engine=banded_xla, and please report this with the processor's name."
        )
