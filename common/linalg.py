"""Dense linear algebra whose bits depend on its arguments alone.

Not on the processor, the number of threads, the versions of numpy and scipy, or other rows of a
batch: the native library (`native/`) forms every element of a result by separately rounded products
and sums in a stated order. Where it is not built, numpy and scipy compute with one thread, and bits
depend on their versions and on the processor; `arithmetic` tells which.
"""

import ctypes
import functools

import numpy as np
import threadpoolctl

from kipper.common.cores import usable_cores
from kipper.common.native.build import library_path
from kipper.common.processor import instruction_sets

# The libraries of one number give the same bits; raise it, in native/linalg.cpp too, with any
# change of them.
ARITHMETIC = 1

_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64
_MATRIX = [_POINTER, _INTEGER, _INTEGER]  # with the distances of its rows and of its columns
_ARGUMENTS = {
    "matmul": [*_MATRIX, *_MATRIX, _POINTER, *3 * [_INTEGER], ctypes.c_int, ctypes.c_int],
}


def matmul(a: np.ndarray, b: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """a (m, k) times b (k, n) -> (m, n), float32 if both are, else float64.

    Factors may be views with any strides, such as transposes. An element is the sum of blocks of
    256 products, in order, of which each is summed with k ascending.

    Args:
        threads: by default as many as this process has cores; bits do not depend on it.
    """
    return _product(a, b, symmetric=False, threads=threads)


def gram(a: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """a.T a (n, n) of a (m, n), at half the cost of `matmul(a.T, a)` and with the same bits."""
    return _product(a.T, a, symmetric=True, threads=threads)


def arithmetic() -> str:
    """What bits depend on: processes with equal answers compute equal bits."""
    if _library() is not None:
        return f"kipper linear algebra {ARITHMETIC}"
    return f"{'; '.join(_blas())}; 1 thread"


def unavailable() -> str | None:
    """One sentence on why the native library cannot be used; None if it can."""
    if _library() is not None:
        return None
    return (
        "No library of linear algebra for this processor can be loaded, so results depend on the "
        "processor and the versions of numpy and scipy; install a C++ compiler (g++ 11 or later) "
        "and run `python -m kipper.workers.native.build`."
    )


def _library() -> ctypes.CDLL | None:
    return _loaded(instruction_sets())


@functools.cache
def _loaded(levels: tuple[str, ...]) -> ctypes.CDLL | None:
    """The library of the first level that one was built for; None if there is none."""
    for level in levels:
        if not library_path(level).exists():
            continue
        try:
            library = ctypes.CDLL(str(library_path(level)))
            if library.kipper_arithmetic() != ARITHMETIC:
                continue  # of another version of kipper
            for name, arguments in _ARGUMENTS.items():
                for dtype in ("float32", "float64"):
                    getattr(library, f"kipper_{name}_{dtype}").argtypes = arguments
        except (OSError, AttributeError):
            continue
        return library
    return None


@functools.cache
def _blas() -> list[str]:
    """Limits the libraries of numpy and scipy to one thread, for good; returns their names."""
    import scipy.linalg  # brings a library of its own

    threadpoolctl.threadpool_limits(1, user_api="blas")
    found = threadpoolctl.threadpool_info()
    names = {
        f"{library['internal_api']} {library['version']} {library.get('architecture', '')}".strip()
        for library in found
        if library["user_api"] == "blas"
    }
    return [f"numpy {np.__version__}", f"scipy {scipy.__version__}", *sorted(names)]


def _product(a: np.ndarray, b: np.ndarray, symmetric: bool, threads: int | None) -> np.ndarray:
    dtype = np.result_type(a, b, np.float32)
    a, b = _addressable(a, dtype), _addressable(b, dtype)
    (rows, depth), (same_depth, columns) = a.shape, b.shape
    if depth != same_depth:
        raise ValueError(f"matrices of shapes {a.shape} and {b.shape} have no product")
    library = _library()
    if library is None:
        _blas()
        return a @ b
    result = np.empty((rows, columns), dtype)
    function = getattr(library, f"kipper_matmul_{dtype.name}")
    out_of_memory = function(
        *_matrix(a),
        *_matrix(b),
        result.ctypes.data,
        rows,
        columns,
        depth,
        symmetric,
        threads or usable_cores(),
    )
    if out_of_memory:
        raise MemoryError
    return result


def _addressable(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array, or a copy if it has another dtype or strides that are no multiples of elements."""
    values = np.asarray(values, dtype)
    strided = not any(stride % values.itemsize for stride in values.strides)
    return values if strided and values.flags.aligned else np.ascontiguousarray(values)


def _matrix(values: np.ndarray) -> tuple[int, int, int]:
    rows, columns = values.strides
    return values.ctypes.data, rows // values.itemsize, columns // values.itemsize
