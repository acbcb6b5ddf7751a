"""Dense linear algebra whose bits depend on its arguments alone.

They do not depend on the number of threads, the versions of numpy and scipy, or other rows of a
batch. Nor do they depend on the processor, if it has fused multiplication and addition, as nearly
all since 2013 have. The native library (`native/`) forms every element of a result in a stated
order of stated roundings. Where it is not built, numpy and scipy compute with one thread, and bits
depend on their versions and on the processor, which `arithmetic` names.
"""

import ctypes
import functools

import numpy as np
import scipy.linalg
import threadpoolctl

from kipper.common.cores import usable_cores
from kipper.common.native.build import library_path
from kipper.common.processor import TOO_OLD, instruction_sets

# The libraries of one number give the same bits, if they are fused alike; raise it, in
# native/linalg.cpp too, with any change of them.
ARITHMETIC = 2

_POINTER, _INDEX = ctypes.c_void_p, ctypes.c_int64
_MATRIX = (_POINTER, _INDEX, _INDEX)  # with the distances of its rows and of its columns
_MATMUL = (*_MATRIX, *_MATRIX, _POINTER, _INDEX, _INDEX, _INDEX, ctypes.c_int, ctypes.c_int)
# The arguments of the functions in native/linalg.cpp; the last is the number of threads.
_ARGUMENTS = {
    "kipper_matmul_float32": _MATMUL,
    "kipper_matmul_float64": _MATMUL,
    "kipper_cholesky": (_POINTER, _INDEX, ctypes.c_int),
    "kipper_solve_lower": (_POINTER, ctypes.c_int, _POINTER, _INDEX, _INDEX, ctypes.c_int),
    "kipper_tridiagonal": (_POINTER, _INDEX, *4 * (_POINTER,), ctypes.c_int),
    "kipper_diagonalise": (_INDEX, *3 * (_POINTER,), ctypes.c_int),
}
_OUT_OF_MEMORY, _FAILED = 1, 2
_REFLECTORS = 64  # that are applied together; part of the order of sums


def matmul(a: np.ndarray, b: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """a (m, k) times b (k, n) -> (m, n), float32 if both are, else float64.

    Factors may be views with any strides, such as transposes. An element is the sum of blocks of
    256 products, in order, of which each is summed with k ascending, by fused multiplication and
    addition where the processor has it.

    Args:
        threads: by default as many as this process has cores; bits do not depend on it.
    """
    return _product(a, b, symmetric=False, threads=threads)


def gram(a: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """a.T a (n, n) of a (m, n), at half the cost of `matmul(a.T, a)` and with the same bits."""
    return _product(a.T, a, symmetric=True, threads=threads)


def total(values: np.ndarray) -> float:
    """The sum of all elements, in the order of `matmul` over the flattened array."""
    return float(column_sums(values.reshape(-1, 1))[0])


def column_sums(rows: np.ndarray) -> np.ndarray:
    """(m, n) -> (n,): the sums over rows, in the order of `matmul`."""
    return matmul(np.ones((1, len(rows)), np.float32), rows)[0]


def column_means(rows: np.ndarray) -> np.ndarray:
    """(m, n) -> (n,): the means over rows."""
    return column_sums(rows) / len(rows)


def row_sums(rows: np.ndarray) -> np.ndarray:
    """(m, n) -> (m,): the sums over columns, in the order of `matmul`."""
    return matmul(rows, np.ones((rows.shape[1], 1), np.float32))[:, 0]


def sum_of_squares(values: np.ndarray) -> float:
    """The sum of squares of all elements, in the order of `matmul` over the flattened array."""
    flat = values.reshape(1, -1)
    return float(matmul(flat, flat.T)[0, 0])


def cholesky(a: np.ndarray) -> np.ndarray:
    """The lower triangular L (n, n) with L L.T = a, float64; only a's lower triangle is read.

    Raises:
        np.linalg.LinAlgError: `a` is not positive definite, or not finite.
    """
    library = _library()
    if library is None:
        _blas()
        return scipy.linalg.cholesky(a, lower=True)
    factor = np.array(a, np.float64, order="C")
    status = library.kipper_cholesky(factor.ctypes.data, len(factor), usable_cores())
    _check(status, "the matrix is not positive definite")
    return np.tril(factor)


def solve_lower(lower: np.ndarray, right: np.ndarray, *, transposed: bool = False) -> np.ndarray:
    """L^-1 right (n, C), or L^-T right if `transposed`, float64, for a lower triangular L (n, n).

    Columns are solved independently of each other. Zeros on the diagonal give infinities.
    """
    library = _library()
    lower = np.ascontiguousarray(lower, np.float64)
    if library is None:
        _blas()
        return scipy.linalg.solve_triangular(lower, right, trans=int(transposed), lower=True)
    solution = np.array(right, np.float64, order="C")
    rows, columns = solution.shape
    if lower.shape != (rows, rows):
        raise ValueError(f"a system {lower.shape} has no right-hand side {right.shape}")
    status = library.kipper_solve_lower(
        lower.ctypes.data, transposed, solution.ctypes.data, rows, columns, usable_cores()
    )
    _check(status)
    return solution


def cholesky_solve(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(L L.T)^-1 right (n, C), float64, for a factor L from `cholesky`."""
    return solve_lower(factor, solve_lower(factor, right), transposed=True)


def eigh(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ascending eigenvalues (n,) and eigenvectors (n, n), in columns, of a symmetric `a`; float64.

    Only a's lower triangle is read.

    Raises:
        np.linalg.LinAlgError: `a` is not finite.
    """
    scaled, exponent = _scaled(a)
    if _library() is None:
        _blas()
        values, vectors = np.linalg.eigh(scaled)
        return np.ldexp(values, exponent), vectors
    diagonal, off_diagonal, reflectors, factors = _tridiagonal(scaled)
    rows = np.ascontiguousarray(_product_of_reflectors(reflectors, factors).T)
    values = _diagonal(diagonal, off_diagonal, rows)
    order = np.argsort(values, kind="stable")
    return np.ldexp(values[order], exponent), np.ascontiguousarray(rows[order].T)


def eigvalsh(a: np.ndarray) -> np.ndarray:
    """The eigenvalues of `eigh`.

    Raises:
        np.linalg.LinAlgError: `a` is not finite.
    """
    scaled, exponent = _scaled(a)
    if _library() is None:
        _blas()
        return np.ldexp(np.linalg.eigvalsh(scaled), exponent)
    diagonal, off_diagonal, _, _ = _tridiagonal(scaled)
    return np.ldexp(np.sort(_diagonal(diagonal, off_diagonal, None)), exponent)


def orthonormal_columns(a: np.ndarray) -> np.ndarray:
    """Q (m, n) with orthonormal columns that span those of `a` (m, n), n <= m; float64.

    Householder's algorithm, as in `np.linalg.qr`; where columns of `a` depend on each other, those
    of Q span more.
    """
    if _library() is None:
        _blas()
        return np.linalg.qr(a)[0]
    rows, columns = a.shape
    rest = np.array(a, np.float64, order="C")
    q = np.eye(rows, columns)
    reflectors, factors = np.zeros((columns, rows)), np.zeros(columns)
    blocks = [
        slice(start, min(start + _REFLECTORS, columns)) for start in range(0, columns, _REFLECTORS)
    ]
    for block in blocks:
        for j in range(block.start, block.stop):
            reflectors[j, j:], factors[j] = _reflector(rest[j:, j])
            panel = rest[j:, j : block.stop]
            vector = reflectors[j : j + 1, j:]
            panel -= (factors[j] * vector.T) * matmul(vector, panel)
        _reflect(
            reflectors[block, block.start :],
            factors[block],
            rest[block.start :, block.stop :],
            inverse=True,
        )
    for block in reversed(blocks):
        _reflect(reflectors[block, block.start :], factors[block], q[block.start :, block.start :])
    return q


def arithmetic() -> str:
    """Names what bits depend on: processes with equal answers compute equal bits."""
    library = _library()
    if library is not None:
        operations = "fused" if library.kipper_fused() else "separate"
        return f"kipper linear algebra {ARITHMETIC}, {operations} operations"
    return f"{'; '.join(_blas())}; 1 thread"


def unavailable() -> str | None:
    """One sentence on why the native library cannot be used; None if it can."""
    if _library() is not None:
        return None
    if not instruction_sets():
        return f"{TOO_OLD} Results depend on it and on the versions of numpy and scipy."
    return (
        "No library of linear algebra for this processor can be loaded, so results depend on the "
        "processor and the versions of numpy and scipy; install a C++ compiler (g++ 11 or later, "
        "or clang++) and run `python -m kipper.workers.native.build`."
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
                getattr(library, name).argtypes = arguments
        except (OSError, AttributeError):
            continue
        return library
    return None


@functools.cache
def _blas() -> list[str]:
    """Limits the libraries of numpy and scipy to one thread permanently; returns their names."""
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
    multiply = getattr(library, f"kipper_matmul_{dtype.name}")
    address, threads = result.ctypes.data, threads or usable_cores()
    _check(multiply(*_matrix(a), *_matrix(b), address, rows, columns, depth, symmetric, threads))
    return result


def _check(status: int, failure: str = "") -> None:
    """Raises the error that a status of the library stands for."""
    if status == _OUT_OF_MEMORY:
        raise MemoryError
    if status == _FAILED:
        raise np.linalg.LinAlgError(failure)


def _scaled(a: np.ndarray) -> tuple[np.ndarray, int]:
    """`a`, mirrored from below, over the power of 2 that brings its entries to 1; the exponent."""
    a = np.tril(np.asarray(a, np.float64))
    a += np.tril(a, -1).T
    largest = np.abs(a).max(initial=0.0)
    if not np.isfinite(largest):
        raise np.linalg.LinAlgError("the matrix is not finite")
    exponent = int(np.frexp(largest)[1])
    return np.ldexp(a, -exponent), exponent


def _tridiagonal(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Diagonals (n,) each, and reflectors (n, n) with their factors (n,); spoils the matrix."""
    library = _library()
    assert library is not None
    size = len(scaled)
    diagonal, off_diagonal, factors = np.empty(size), np.empty(size), np.empty(size)
    reflectors = np.empty((size, size))
    arrays = (diagonal, off_diagonal, reflectors, factors)
    addresses = (array.ctypes.data for array in arrays)
    _check(library.kipper_tridiagonal(scaled.ctypes.data, size, *addresses, usable_cores()))
    return diagonal, off_diagonal, reflectors, factors


def _diagonal(
    diagonal: np.ndarray, off_diagonal: np.ndarray, rows: np.ndarray | None
) -> np.ndarray:
    """The eigenvalues, in no order; `rows` (n, n), such as Q.T, become the eigenvectors."""
    library = _library()
    assert library is not None
    addresses = diagonal.ctypes.data, off_diagonal.ctypes.data
    of_rows = None if rows is None else rows.ctypes.data
    status = library.kipper_diagonalise(len(diagonal), *addresses, of_rows, usable_cores())
    _check(status, "the eigenvalues did not converge")
    return diagonal


def _reflector(column: np.ndarray) -> tuple[np.ndarray, float]:
    """v (n,) and f such that (I - f v v.T) maps `column` (n,) to a multiple of the first axis."""
    vector = np.zeros(len(column))
    vector[0] = 1.0
    largest = float(np.abs(column).max())
    if largest == 0.0 or not np.isfinite(largest):
        return vector, 0.0
    scaled = np.ldexp(column, -int(np.frexp(largest)[1]))
    length = float(np.sqrt(sum_of_squares(scaled)))
    first = float(scaled[0])
    beta = -length if first > 0 else length
    vector[1:] = scaled[1:] / (first - beta)
    return vector, (beta - first) / beta


def _product_of_reflectors(reflectors: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """H_0 H_1 ... (n, n), H_j = I - factors[j] v_j v_j.T; v_j = reflectors[j] is 0 up to j."""
    product = np.eye(len(reflectors))
    for start in reversed(range(0, len(reflectors), _REFLECTORS)):
        block = slice(start, start + _REFLECTORS)
        _reflect(reflectors[block, start + 1 :], factors[block], product[start + 1 :, start + 1 :])
    return product


def _reflect(
    reflectors: np.ndarray, factors: np.ndarray, columns: np.ndarray, inverse: bool = False
) -> None:
    """Multiplies `columns` (n, m) in place by H_0 H_1 ..., or by its inverse, ... H_1 H_0.

    The product of k reflections is I - V U^-1 V.T with U = diag(1 / factors) + striu(V.T V).
    Reflections with the factor 0 are none.
    """
    real = factors != 0
    v = reflectors[real]
    lower = np.tril(gram(v.T), -1) + np.diag(1 / factors[real])  # U.T
    inner = solve_lower(lower, matmul(v, columns), transposed=not inverse)
    columns -= matmul(v.T, inner)


def _addressable(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array, or a copy if it has another dtype or strides that are no multiples of elements."""
    values = np.asarray(values, dtype)
    strided = not any(stride % values.itemsize for stride in values.strides)
    return values if strided and values.flags.aligned else np.ascontiguousarray(values)


def _matrix(values: np.ndarray) -> tuple[int, int, int]:
    rows, columns = values.strides
    return values.ctypes.data, rows // values.itemsize, columns // values.itemsize
