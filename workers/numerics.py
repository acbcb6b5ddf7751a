"""The numeric identity of this process's engines; see `common/numerics.py`."""

import hashlib
from collections.abc import Sequence

import numpy as np

from kipper.common.architecture import KernelSpec
from kipper.common.numerics import Numerics
from kipper.workers.engine import Engine, PreparedImages
from kipper.workers.self_check import small_images

# Compiling the gradient of these takes many seconds. Their arithmetic names the version of XLA,
# which leaves less to check than a compiler of native code does.
_SLOW_TO_COMPILE = ("banded_xla", "neural_tangents")


def numerics_of(engines: Sequence[Engine], specs: Sequence[KernelSpec]) -> Numerics:
    """The identity of the engines of a run's kernels."""
    checks = [_check(engine, spec) for engine, spec in zip(engines, specs, strict=True)]
    return Numerics(
        ", ".join(dict.fromkeys(engine.name for engine in engines)),
        ", ".join(dict.fromkeys(engine.arithmetic for engine in engines)),
        checks[0] if len(checks) == 1 else _hash("".join(checks).encode()),
    )


def _check(engine: Engine, spec: KernelSpec) -> str:
    """A hash of a small block and its gradient; empty for a network of unknown image shape."""
    if spec.architecture.file is not None:
        return ""
    images = small_images(spec, np.random.default_rng(0)).astype(spec.dtype)
    every = PreparedImages(images, engine.features(images))
    first = every.take(slice(0, 2))
    arrays = [engine.block(first, every)]
    if engine.name not in _SLOW_TO_COMPILE:
        arrays += engine.block_vjp(first, every, np.ones_like(arrays[0]), both=True)[1]
    return _hash(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]
