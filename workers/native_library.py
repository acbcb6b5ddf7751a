"""The library of native kernels for this processor, and its functions for JAX.

The instruction sets of the processor decide which library is used. XLA calls its functions.
"""

import ctypes
import functools
import os
import pathlib
from typing import Any

import jax
import jax.ffi
import numpy as np
from jax import Array

from kipper.common.processor import instruction_sets
from kipper.workers.native.build import libraries

LIBRARIES = libraries()

# In native/handlers.cpp.
_ENTRY_POINTS = ("variance_maps", "variance_maps_vjp", "cross", "cross_vjp", "dense", "dense_vjp")


def runnable_levels() -> list[str]:
    """Instruction sets that this processor has and that a library was built for, best first."""
    return [level for level in instruction_sets() if _library_path(level).exists()]


def unavailable() -> str | None:
    """One sentence on why the native library cannot be used; None if it can."""
    levels = runnable_levels()
    if not levels:
        return (
            f"No native kernel library for this processor is in {LIBRARIES}; install a C++ "
            "compiler (g++ 11 or later) and run `python -m kipper.workers.native.build`."
        )
    try:
        _register(levels[0])
    except (OSError, AttributeError) as error:
        return f"The native kernel library cannot be loaded: {error}."
    return None


def lanes(dtype: np.dtype, level: str | None) -> int:
    """The number of values of `dtype` in a vector, as in native/lanes.hpp."""
    vector_bytes = {"x86-64-v4": 64, "x86-64-v3": 32}.get(level or runnable_levels()[0], 16)
    return vector_bytes // np.dtype(dtype).itemsize


def entry_point(name: str, like: Array, shapes: list[tuple[int, ...]], level: str | None) -> Any:
    """A function of the library that can be called on JAX arrays, in `jax.jit` and outside.

    Args:
        name: one of `_ENTRY_POINTS`.
        like: an array of the dtype, float32 or float64, of all arguments and results.
        shapes: the shapes of the results.
        level: the instruction set; by default the best one.
    """
    targets = _register(level or runnable_levels()[0])
    dtype = np.dtype(like.dtype)
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return jax.ffi.ffi_call(targets[name, dtype.name], results)


@functools.cache
def _register(level: str) -> dict[tuple[str, str], str]:
    """Loads a library and registers it with XLA: (entry point, dtype) -> name of the target.

    Raises:
        OSError, AttributeError: the library cannot be loaded, or is of another version.
    """
    library = ctypes.cdll.LoadLibrary(os.fspath(_library_path(level)))
    handlers = {
        (name, dtype): getattr(library, f"kipper_{name}_{dtype}")
        for name in _ENTRY_POINTS
        for dtype in ("float32", "float64")
    }
    targets = {}
    for (name, dtype), handler in handlers.items():
        targets[name, dtype] = f"kipper_{name}_{dtype}_{level}"
        jax.ffi.register_ffi_target(
            targets[name, dtype], jax.ffi.pycapsule(handler), platform="cpu"
        )
    return targets


def _library_path(level: str) -> pathlib.Path:
    return LIBRARIES / f"banded_{level}.so"
