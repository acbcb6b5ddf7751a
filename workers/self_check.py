"""What native kernels must pass before they are used on a machine.

K is compared with plain JAX. The gradient is compared with differences of K in float64: plain JAX
takes twenty seconds to compile its own.
"""

import dataclasses
import functools

import numpy as np

from kipper.common.architecture import KernelSpec
from kipper.common.errors import WorkerError
from kipper.workers.banded_engine import BandedEngine, banded_cpu_engine, banded_xla_engine
from kipper.workers.engine import PreparedImages

# Relative to the largest entry. Right ones were at most a thirtieth of these, up to ten layers.
_KERNEL_TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
_GRADIENT_TOLERANCE = {"float32": 2e-3, "float64": 1e-5}

_DIRECTIONS = 6
_STEP = 1e-5


@functools.lru_cache(maxsize=8)
def check_native(spec: KernelSpec) -> None:
    """Tries the native engine of `spec` on a few small images, once a process.

    Raises:
        WorkerError: its kernel or its gradient is wrong.
    """
    rng = np.random.default_rng(0)
    images = small_images(spec, rng)
    native, plain = banded_cpu_engine(spec, 1), banded_xla_engine(spec)
    first, every = images[:2].astype(spec.dtype), images.astype(spec.dtype)
    got, want = _block(native, first, every), _block(plain, first, every)
    _compare("kernel", got, want, "plain JAX", _KERNEL_TOLERANCE[spec.dtype])

    x1, x2 = images[:2], images[2:]  # no image is among both: K has a kink there
    exact = banded_cpu_engine(dataclasses.replace(spec, dtype="float64"), 1)
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


def small_images(spec: KernelSpec, rng: np.random.Generator) -> np.ndarray:
    """Five images, float64, of the smallest size that the network's poolings leave whole."""
    side = max(4, 2**spec.architecture.num_pools)
    return rng.normal(size=(5, side, side, 2))


def _prepared(engine: BandedEngine, images: np.ndarray) -> PreparedImages:
    return PreparedImages(images, engine.features(images))


def _block(engine: BandedEngine, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return engine.block(_prepared(engine, x1), _prepared(engine, x2))


def _gradient(
    engine: BandedEngine, x1: np.ndarray, x2: np.ndarray, both: bool
) -> tuple[np.ndarray, ...]:
    ones = np.ones((len(x1), len(x2)), x1.dtype)
    return engine.block_vjp(_prepared(engine, x1), _prepared(engine, x2), ones, both)[1]


def _compare(
    what: str, got: np.ndarray, want: np.ndarray, reference: str, tolerance: float
) -> None:
    error = float(np.abs(got - want).max() / np.abs(want).max())
    if not error < tolerance:
        raise WorkerError(
            f"The native engine's {what} is off by {error:.1e} of {reference} on this machine; "
            "give --engine=banded_xla, and please report it with the processor's name."
        )
