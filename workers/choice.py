"""Which engine evaluates a kernel: the one asked for, or the fastest that can."""

import importlib.util

import jax
from absl import logging

from kipper.common.architecture import KernelSpec
from kipper.common.engines import ENGINES
from kipper.common.errors import UserError
from kipper.workers import banded_cpu
from kipper.workers import banded_engine as banded_engines
from kipper.workers.bands import banded_network
from kipper.workers.dense import dense_network
from kipper.workers.dense_engine import dense_engine
from kipper.workers.engine import Engine
from kipper.workers.self_check import check_native


def make_engine(name: str, spec: KernelSpec, threads: int) -> Engine:
    """The engine of that name for one kernel.

    `auto` is `banded_cpu` for convolutional ReLU networks on CPUs, `banded_xla` on other devices or
    where the native library is missing (which is logged as a warning); `dense` for fully connected
    ones; and `neural_tangents` for other nonlinearities and for networks of the user's own.

    Args:
        name: one of `ENGINES`.
        spec: the kernel.
        threads: that a native engine may use at once.

    Raises:
        UserError: no such engine, or it cannot evaluate this kernel or run here.
        WorkerError: `banded_cpu` was chosen and computes something else than it should here.
    """
    check_engine(name, spec)
    if name == "dense" or (name == "auto" and _is_dense(spec)):
        return dense_engine(spec, threads)
    if name == "neural_tangents" or (name == "auto" and not _is_banded(spec)):
        from kipper.workers.neural_tangents_engine import neural_tangents_engine

        return neural_tangents_engine(spec)
    if name == "banded_xla" or (name == "auto" and jax.default_backend() != "cpu"):
        return banded_engines.banded_xla_engine(spec)
    missing = banded_cpu.unavailable()
    if missing and name == "auto":
        logging.warning("%s Using banded_xla instead, which is many times slower.", missing)
        return banded_engines.banded_xla_engine(spec)
    check_native(spec)
    return banded_engines.banded_cpu_engine(spec, threads)


def check_engine(name: str, spec: KernelSpec) -> None:
    """Refuses an engine that cannot evaluate a kernel or cannot run here; starts no device.

    Raises:
        UserError: one sentence says what is missing and what would be right.
    """
    if name not in ENGINES:
        raise UserError(f"Unknown engine {name!r}; known are {', '.join(ENGINES)}.")
    architecture = spec.architecture.title
    if _is_dense(spec) and name in ("auto", "dense"):
        return
    if name == "dense":
        raise UserError(
            f"Engine 'dense' evaluates fully connected ReLU networks only, not {architecture!r}; "
            "give --engine=auto."
        )
    if name == "neural_tangents" or (name == "auto" and not _is_banded(spec)):
        if importlib.util.find_spec("neural_tangents") is None:
            raise UserError(_without_neural_tangents(architecture, name))
    elif not _is_banded(spec):
        raise UserError(
            f"Engine {name!r} evaluates convolutional ReLU networks only, not "
            f"{architecture!r}; give --engine=auto."
        )
    elif name == "banded_cpu" and (missing := banded_cpu.unavailable()):
        raise UserError(missing)


def _without_neural_tangents(architecture: str, engine: str) -> str:
    comes = "which is not installed; it comes with kipper on Python 3.10"
    if engine == "auto":
        return (
            f"{architecture!r} is evaluated by neural-tangents alone, {comes}: take that, or an "
            "architecture with ReLU."
        )
    return f"Engine {engine!r} needs the library of that name, {comes}: give --engine=auto."


def _is_dense(spec: KernelSpec) -> bool:
    return dense_network(spec.architecture) is not None


def _is_banded(spec: KernelSpec) -> bool:
    # Any size will do to see whether the layers suit.
    return banded_network(spec.architecture, 64, 64) is not None
