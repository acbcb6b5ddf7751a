"""Linear algebra against numpy and scipy; its bits across instruction sets and threads."""

import ctypes
import ctypes.util
import hashlib

import numpy as np
import pytest
import scipy.linalg

from kipper.common import linalg
from kipper.common.native.build import library_path
from kipper.common.processor import instruction_sets

EPSILON = np.finfo(np.float64).eps
LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
LEVELS = [level for level in instruction_sets() if library_path(level).exists()]
# Sides around the widths of vectors and tiles, and the blocks of sums and tasks.
SHAPES = [(1, 1, 1), (5, 3, 7), (8, 256, 24), (9, 257, 25), (100, 600, 10), (97, 11, 800)]


def use_level(monkeypatch, level):
    """Uses the library of one instruction set, or none."""
    monkeypatch.setattr(linalg, "instruction_sets", lambda: (level,) if level else ())


@pytest.fixture(params=[*LEVELS, None])
def level(request, monkeypatch):
    """Runs a test with every library that this processor can use, and without one."""
    use_level(monkeypatch, request.param)
    return request.param


def factors(shape, dtype="float64", seed=0):
    rows, depth, columns = shape
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(rows, depth)), rng.normal(size=(depth, columns))
    return a.astype(dtype), b.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_right(level, shape, dtype):
    a, b = factors(shape, dtype)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    got = linalg.matmul(a, b)
    assert got.dtype == dtype
    bound = shape[1] * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b))
    assert (np.abs(got - exact) <= bound).all()


def stated_product(a, b, multiply_add):
    """The sum that `matmul` promises, written out."""
    result = None
    for start in range(0, a.shape[1], 256):
        block = np.zeros((len(a), b.shape[1]), a.dtype)
        for k in range(start, min(start + 256, a.shape[1])):
            block = multiply_add(a[:, k, None], b[k], block)
        result = block if result is None else result + block
    return result


def fused(a, b, c):
    """a b + c with one rounding, by the C library."""
    function, number = {
        "float32": (LIBM.fmaf, ctypes.c_float),
        "float64": (LIBM.fma, ctypes.c_double),
    }[c.dtype.name]
    function.argtypes, function.restype = (number,) * 3, number
    flat = (np.broadcast_to(x, c.shape).ravel().tolist() for x in (a, b, c))
    return np.array(list(map(function, *flat)), c.dtype).reshape(c.shape)


def separate(a, b, c):
    return a * b + c


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("instructions", LEVELS)
def test_every_element_is_the_sum_that_is_stated(monkeypatch, instructions, shape, dtype):
    use_level(monkeypatch, instructions)
    a, b = factors(shape, dtype)
    separately = linalg.arithmetic().endswith(" separate operations")
    expected = stated_product(a, b, separate if separately else fused)
    for threads in (1, 2, 7):
        np.testing.assert_array_equal(linalg.matmul(a, b, threads=threads), expected)
    turned = np.asfortranarray(a), np.asfortranarray(b)
    np.testing.assert_array_equal(linalg.matmul(*turned), expected)
    spread = np.repeat(a, 2, axis=1)[:, ::2], b[::-1][::-1, ::-1]
    np.testing.assert_array_equal(linalg.matmul(*spread), expected[:, ::-1])
    np.testing.assert_array_equal(linalg.matmul(a[-1:], b), expected[-1:])
    np.testing.assert_array_equal(linalg.gram(b), linalg.matmul(b.T, b))


def test_large_products_are_split_into_tasks(level):
    a, b = factors((900, 300, 800))
    one = linalg.matmul(a, b, threads=1)
    np.testing.assert_allclose(one, a @ b, rtol=1e-10, atol=1e-10)
    if level is not None:
        np.testing.assert_array_equal(linalg.matmul(a, b, threads=3), one)
        np.testing.assert_array_equal(linalg.gram(b, threads=3), linalg.matmul(b.T, b))


def test_empty_products(level):
    assert linalg.matmul(np.ones((0, 3)), np.ones((3, 2))).shape == (0, 2)
    np.testing.assert_array_equal(linalg.matmul(np.ones((2, 0)), np.ones((0, 3))), np.zeros((2, 3)))
    assert linalg.gram(np.ones((4, 0))).shape == (0, 0)


def test_what_is_not_finite_reaches_its_elements_only(level):
    a, b = factors((10, 9, 8))
    a[3, 2], b[4, 5] = np.nan, np.inf
    got = linalg.matmul(a, b)
    spoilt = np.zeros((10, 8), bool)
    spoilt[3], spoilt[:, 5] = True, True
    np.testing.assert_array_equal(~np.isfinite(got), spoilt)


def test_subnormal_numbers_are_kept(level):
    tiny = np.full((1, 1), 5e-324)
    assert linalg.matmul(tiny, np.ones((1, 1)))[0, 0] == 5e-324


def test_integers_and_mixed_types_are_float64(level):
    got = linalg.matmul(np.eye(3, dtype=np.int64), np.ones((3, 2), np.float32))
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, np.ones((3, 2)))


def test_shapes_that_do_not_fit_are_refused(level):
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 3\) have no product"):
        linalg.matmul(np.ones((2, 3)), np.ones((2, 3)))


def test_the_arithmetic_has_a_name(monkeypatch):
    for instructions in LEVELS:
        use_level(monkeypatch, instructions)
        operations = "separate" if instructions == "x86-64-v2" else "fused"
        assert (
            linalg.arithmetic()
            == f"kipper linear algebra {linalg.ARITHMETIC}, {operations} operations"
        )
        assert linalg.unavailable() is None
    use_level(monkeypatch, None)
    assert linalg.arithmetic().startswith(f"numpy {np.__version__}; scipy ")
    assert linalg.arithmetic().endswith("; 1 thread")
    assert "the processor lacks what x86-64-v2 requires" in linalg.unavailable()


def test_a_library_of_another_arithmetic_is_not_used(monkeypatch):
    monkeypatch.setattr(linalg, "ARITHMETIC", linalg.ARITHMETIC + 1)
    assert linalg._loaded.__wrapped__(instruction_sets()) is None


def digest(*arrays):
    return hashlib.sha256(b"".join(map(np.ndarray.tobytes, arrays))).hexdigest()[:16]


@pytest.mark.parametrize("instructions", LEVELS)
def test_the_number_of_the_arithmetic_stands_for_these_bits(monkeypatch, instructions):
    """Where this fails, bits have changed: raise `ARITHMETIC`, here and in native/linalg.cpp."""
    use_level(monkeypatch, instructions)
    a = np.random.default_rng(0).random((150, 300)) - 0.5
    square = linalg.gram(a.T)
    factor = linalg.cholesky(square)
    found = digest(
        square,
        linalg.matmul(a.astype(np.float32), a.T.astype(np.float32)),
        factor,
        linalg.cholesky_solve(factor, a),
        *linalg.eigh(square),
        linalg.orthonormal_columns(a.T),
        linalg.column_sums(a),
    )
    operations = linalg.arithmetic().split()[-2]
    assert (linalg.ARITHMETIC, operations, found) in {
        (2, "fused", "f295119183aa8518"),
        (2, "separate", "e2a43fde63341283"),
    }


def matrix(size, condition=10.0, seed=0):
    """A symmetric positive definite matrix (size, size) with eigenvalues from 1/condition to 1."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(size, size)))
    matrix = (q * np.geomspace(1, 1 / condition, size)) @ q.T
    return (matrix + matrix.T) / 2


SIZES = [1, 2, 3, 10, 63, 64, 65, 130, 200]


@pytest.mark.parametrize("condition", [1.0, 1e6, 1e13])
@pytest.mark.parametrize("size", SIZES)
def test_cholesky_factors_are_right(level, size, condition):
    a = matrix(size, condition)
    spoilt = a + np.triu(np.full((size, size), 7.0), 1)  # only the lower triangle counts
    factor = linalg.cholesky(spoilt)
    np.testing.assert_array_equal(np.triu(factor, 1), 0)
    assert np.abs(factor @ factor.T - a).max() <= 4 * size * EPSILON
    np.testing.assert_array_equal(spoilt[np.triu_indices(size, 1)], a[np.triu_indices(size, 1)] + 7)


@pytest.mark.parametrize("columns", [0, 1, 10, 70])
@pytest.mark.parametrize("size", SIZES)
def test_triangular_systems_are_solved(level, size, columns):
    rng = np.random.default_rng(1)
    factor = np.tril(rng.normal(size=(size, size))) / size + np.eye(size)
    right = rng.normal(size=(columns, size)).T
    for transposed, operator in ((False, factor), (True, factor.T)):
        solution = linalg.solve_lower(factor, right, transposed=transposed)
        np.testing.assert_allclose(operator @ solution, right, rtol=0, atol=1e-12)
        for column in range(0, columns, 9):  # whatever the other columns are
            alone = linalg.solve_lower(factor, right[:, [column]], transposed=transposed)
            if level is not None:
                np.testing.assert_array_equal(alone[:, 0], solution[:, column])


def test_systems_of_factors_are_backward_stable(level):
    a = matrix(150, 1e12)
    right = np.random.default_rng(2).normal(size=(150, 3))
    solution = linalg.cholesky_solve(linalg.cholesky(a), right)
    residual = np.abs(a @ solution - right).max()
    assert residual <= 150 * EPSILON * np.abs(a).max() * np.abs(solution).max()


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 70, 99])
def test_matrices_that_are_not_positive_definite_are_refused(level, place, value):
    a = matrix(100)
    a[place, place] = value
    with pytest.raises((np.linalg.LinAlgError, ValueError)):
        linalg.cholesky(a)


def check_eigh(a):
    values, vectors = linalg.eigh(a)
    size, scale = len(a), max(np.abs(a).sum(1).max(initial=0), np.finfo(float).tiny)
    tolerance = 30 * np.sqrt(size) * EPSILON
    assert (np.diff(values) >= 0).all()
    np.testing.assert_allclose(values, scipy.linalg.eigvalsh(a), rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(linalg.eigvalsh(a), values, rtol=0, atol=tolerance * scale)
    assert np.abs(a @ vectors - vectors * values).max(initial=0) <= tolerance * scale
    assert np.abs(vectors.T @ vectors - np.eye(size)).max(initial=0) <= tolerance
    return values, vectors


@pytest.mark.parametrize("size", SIZES)
def test_eigenvectors_of_drawn_matrices(level, size):
    a = np.random.default_rng(size).normal(size=(size, size))
    check_eigh(a + a.T)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e150, 1e300])
def test_eigenvectors_of_tiny_and_huge_matrices(level, scale):
    check_eigh(matrix(40, 1e8) * scale)


def arrow(size):
    """A matrix with entries in its last row, last column and diagonal only."""
    a = np.diag(np.linspace(-1, 1, size))
    a[-1], a[:, -1] = 0.1, 0.1
    return a


def few_directions(size, count):
    """The moment of `count` images with a ridge, (size, size): most eigenvalues coincide."""
    rows = np.random.default_rng(0).random((count, size))
    rows -= rows.mean(1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.T @ rows / count + 0.1 / size * np.eye(size)


@pytest.mark.parametrize(
    "a",
    [
        np.zeros((7, 7)),
        np.eye(50),
        np.ones((80, 80)),
        np.diag(np.arange(9.0)[::-1]),
        np.diag(10.0 ** -np.arange(0, 60, 2)),
        matrix(90, 1e16),
        np.kron(np.eye(30), np.array([[1.0, 0.5], [0.5, 1.0]])),
        np.diag(np.full(99, 1e-9), 1) + np.diag(np.full(99, 1e-9), -1) + np.diag(np.ones(100)),
        scipy.linalg.hilbert(60),
        arrow(70),
        few_directions(700, 3),
        np.zeros((0, 0)),
    ],
    ids=[
        *("zero", "unit", "rank_one", "descending", "graded", "ill_conditioned", "repeated"),
        *("clustered", "hilbert", "arrow", "few", "empty"),
    ],
)
def test_eigenvectors_of_special_matrices(level, a):
    check_eigh(a)


def test_eigenvalues_of_a_known_matrix(level):
    size = 120
    a = 2 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    known = 4 * np.sin(np.arange(1, size + 1) * np.pi / (2 * (size + 1))) ** 2
    np.testing.assert_allclose(linalg.eigvalsh(a), known, rtol=0, atol=1e-14)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_eigenvectors_need_finite_matrices(level, value):
    a = np.eye(5)
    a[3, 1] = value
    for function in (linalg.eigh, linalg.eigvalsh):
        with pytest.raises((np.linalg.LinAlgError, ValueError)):
            function(a)


@pytest.mark.parametrize("condition", [1.0, 1e14])
@pytest.mark.parametrize("shape", [(1, 1), (5, 0), (9, 9), (100, 3), (200, 130), (64, 64)])
def test_orthonormal_columns_span_the_matrix(level, shape, condition):
    rows, columns = shape
    a = matrix(rows, condition)[:, :columns]
    q = linalg.orthonormal_columns(a)
    assert q.shape == shape
    assert np.abs(q.T @ q - np.eye(columns)).max(initial=0) <= 20 * EPSILON * np.sqrt(rows)
    assert np.abs(q @ (q.T @ a) - a).max(initial=0) <= 20 * EPSILON * np.sqrt(rows)


def test_columns_that_depend_on_each_other_still_give_an_orthonormal_basis(level):
    a = np.random.default_rng(3).normal(size=(20, 4))
    a[:, 2], a[:, 3] = a[:, 0], 0
    q = linalg.orthonormal_columns(a)
    assert np.abs(q.T @ q - np.eye(4)).max() <= 1e-14
    assert np.abs(q @ (q.T @ a) - a).max() <= 1e-14


def test_sums_and_means(level):
    rows = np.random.default_rng(4).normal(size=(700, 30))
    np.testing.assert_allclose(linalg.column_sums(rows), rows.sum(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(linalg.column_means(rows), rows.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(linalg.row_sums(rows), rows.sum(1), rtol=1e-12, atol=1e-12)
    assert linalg.total(rows) == pytest.approx(rows.sum(), rel=1e-12)
    assert linalg.sum_of_squares(rows) == pytest.approx((rows**2).sum(), rel=1e-12)
    assert linalg.total(rows[:0]) == 0
