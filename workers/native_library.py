"""The libraries of native kernels for this processor, and their functions for numpy arrays.

The instruction sets of the processor decide which build of a library is used.
"""

import ctypes
import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kipper.common.processor import TOO_OLD, instruction_sets
from kipper.workers.native.build import LIBRARIES, library_path, sources_hash

# The functions of each library, native/NAME.cpp.
_FUNCTIONS = {
    "banded": (
        *("variance_maps", "variance_maps_vjp", "cross", "cross_vjp"),
        *("listed", "listed_vjp"),
    ),
    "dense": ("dense", "dense_vjp"),
}
_MESSAGE_BYTES = 256
# The instruction set whose vectors have half as many lanes, and whose results have the same bits.
_HALF_AS_WIDE = {"x86-64-v4": "x86-64-v3"}
# Levels and folders of libraries that were seen: looking for them takes as long as a small block.
_built: set[tuple[str, pathlib.Path]] = set()


# The structures of native/interface.hpp.


class _Array(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
    )


class _Numbers(ctypes.Structure):
    _fields_ = (("data", ctypes.POINTER(ctypes.c_int64)), ("count", ctypes.c_int64))


class _Attributes(ctypes.Structure):
    _fields_ = (
        *((name, _Numbers) for name in ("bands", "convs", "pooled", "sizes")),
        *((name, ctypes.c_int64) for name in ("hidden", "threads")),
        *((name, ctypes.c_int64) for name in ("both", "global_average", "tangent")),
        *((name, ctypes.c_double) for name in ("b2", "w2")),
    )


def runnable_levels() -> list[str]:
    """Instruction sets that this processor has and that libraries were built for, best first."""
    return [level for level in instruction_sets() if _is_built(level, LIBRARIES)]


def unavailable() -> str | None:
    """One sentence on why the native libraries cannot be used; None if they can."""
    levels = runnable_levels()
    if not instruction_sets():
        return TOO_OLD
    if not levels:
        return (
            f"No native kernel library for this processor is in {LIBRARIES}; install a C++ "
            "compiler (g++ 11 or later, or clang++) and run "
            "`python -m kipper.workers.native.build`."
        )
    try:
        _loaded(levels[0], LIBRARIES)
    except (OSError, AttributeError) as error:
        return f"The native kernel library cannot be loaded: {error}."
    return None


def lanes(dtype: np.dtype, level: str | None) -> int:
    """The number of values of `dtype` in a vector, as in common/native/lanes.hpp."""
    return _vector_bytes(level or runnable_levels()[0], LIBRARIES) // np.dtype(dtype).itemsize


def level_for(dtype: np.dtype, images: int, *, rows: int = 0, threads: int = 1) -> str:
    """The best instruction set for a batch of `images` in lanes, which changes no bit.

    It is one of half as many lanes if these hold all images. So it is if each half then has a
    thread to itself, where every row of the first batch is a task for each vector of the second.

    Args:
        dtype: the dtype of the values.
        images: the size of the batch.
        rows: the size of the first batch; 0 if tasks do not depend on the width of vectors.
        threads: the number that may be used.
    """
    best, *others = runnable_levels()
    narrow = _HALF_AS_WIDE.get(best)
    if narrow not in others:
        return best
    tasks = rows * -(-images // lanes(dtype, narrow))
    return narrow if images <= lanes(dtype, narrow) or 0 < tasks <= threads else best


def entry_point(
    name: str, like: np.ndarray, shapes: Sequence[tuple[int, ...]], level: str | None
) -> Callable[..., list[np.ndarray]]:
    """A function of the libraries, from arrays and attributes to its results.

    Attributes are keyword arguments: the fields of `Attributes` in native/interface.hpp. The
    function raises a ValueError if shapes do not fit each other, or if memory does not suffice.

    Args:
        name: one of `_FUNCTIONS`.
        like: an array of the dtype, float32 or float64, of all arguments and results.
        shapes: the shapes of the results.
        level: the instruction set; by default the best one.
    """
    dtype = np.dtype(like.dtype)
    function = _loaded(level or runnable_levels()[0], LIBRARIES)[name, dtype.name]

    def call(*arguments: ArrayLike, **attributes: Any) -> list[np.ndarray]:
        given = [np.ascontiguousarray(argument, dtype) for argument in arguments]
        results = [np.empty(shape, dtype) for shape in shapes]
        arrays = (_Array * (len(given) + len(results)))(*map(_array, (*given, *results)))
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        if function(arrays, ctypes.byref(_attributes(attributes)), message):
            raise ValueError(f"The native kernels failed: {message.value.decode()}.")
        return results

    return call


def _is_built(level: str, folder: pathlib.Path) -> bool:
    if (level, folder) in _built:
        return True
    found = all(library_path(name, level, folder).exists() for name in _FUNCTIONS)
    if found:
        _built.add((level, folder))
    return found


def _array(values: np.ndarray) -> _Array:
    return _Array(values.ctypes.data, values.ndim, (ctypes.c_int64 * values.ndim)(*values.shape))


def _attributes(values: dict[str, Any]) -> _Attributes:
    return _Attributes(
        **{
            name: _numbers(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }
    )


@functools.lru_cache(maxsize=64)
def _numbers(values: tuple[int, ...]) -> _Numbers:
    return _Numbers((ctypes.c_int64 * len(values))(*values), len(values))


@functools.cache
def _vector_bytes(level: str, folder: pathlib.Path) -> int:
    """The width of an instruction set's vectors, to which compilers contribute."""
    return int(ctypes.CDLL(os.fspath(library_path("banded", level, folder))).kipper_vector_bytes())


@functools.cache
def _loaded(level: str, folder: pathlib.Path) -> dict[tuple[str, str], Any]:
    """The functions of an instruction set's libraries, by name and dtype.

    Raises:
        OSError, AttributeError: a library cannot be loaded, or is of another version.
    """
    functions = {}
    for library_name, names in _FUNCTIONS.items():
        path = library_path(library_name, level, folder)
        library = ctypes.CDLL(os.fspath(path))
        library.kipper_sources.restype = ctypes.c_char_p
        if library.kipper_sources().decode() != sources_hash():
            raise OSError(
                f"{path.name} was compiled from other sources; run "
                "`python -m kipper.workers.native.build`"
            )
        for name in names:
            for dtype in ("float32", "float64"):
                functions[name, dtype] = getattr(library, f"kipper_{name}_{dtype}")
    return functions
