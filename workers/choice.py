"""Chooses the engine for a kernel: the one asked for, or the fastest that can evaluate it."""

import importlib
from typing import cast

import jax
from absl import logging

from kipper.common.architecture import KernelSpec
from kipper.common.engines import EngineEntry, engines_for
from kipper.common.errors import UserError
from kipper.common.forking import check_not_forked
from kipper.workers.cuda_library import nvidia_gpu_visible
from kipper.workers.engine import Engine, EngineModule


def make_engine(name: str, spec: KernelSpec, threads: int) -> Engine:
    """The engine of that name for one kernel.

    `auto` is the fastest engine that evaluates the kernel and runs on this process's device. If a
    faster one would suit the device but is not installed, a warning says so.

    Args:
        name: one of `common.engines.ENGINES`.
        spec: the kernel.
        threads: the number that native code may use.

    Raises:
        UserError: the engine does not exist, or cannot evaluate this kernel or run here.
        WorkerError: the engine computes wrong results on this machine.
    """
    check_not_forked()
    check_engine(name, spec)
    *preferred, chosen = engines_for(name, spec.architecture)
    lacking = []
    for entry in preferred:
        if runs_here(entry):
            missing = _module(entry).unavailable()
            if missing is None:
                chosen = entry
                break
            lacking.append(missing)
    for missing in lacking:
        logging.warning("%s Using %s instead, which is many times slower.", missing, chosen.name)
    return _module(chosen).make_engine(spec, threads)


def check_engine(name: str, spec: KernelSpec) -> None:
    """Refuses an engine that cannot evaluate a kernel or cannot run here; starts no device.

    Raises:
        UserError: one sentence says what is missing and how to get it.
    """
    missing = unavailable(name, spec)
    if missing and name == "auto":
        last = engines_for(name, spec.architecture)[-1]
        raise UserError(f"{spec.architecture.title!r} needs engine {last.name!r}: {missing}")
    if missing:
        raise UserError(
            f"Engine {name!r} cannot run here (--engine=auto takes one that can): {missing}"
        )


def unavailable(name: str, spec: KernelSpec) -> str | None:
    """One sentence on what an engine lacks here; None if nothing. Starts no device.

    Raises:
        UserError: it cannot evaluate the kernel.
    """
    return _module(engines_for(name, spec.architecture)[-1]).unavailable()


def runs_here(entry: EngineEntry) -> bool:
    """Whether this process has the device that an engine needs; may start JAX's."""
    if entry.backend == "cuda":
        return nvidia_gpu_visible()
    return entry.backend in (None, jax.default_backend())


def _module(entry: EngineEntry) -> EngineModule:
    return cast(EngineModule, importlib.import_module(f"kipper.workers.{entry.name}_engine"))
