"""Linear algebra against numpy and scipy; its bits across instruction sets and threads."""

import numpy as np
import pytest

from kipper.common import linalg
from kipper.common.native.build import library_path
from kipper.common.processor import instruction_sets

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


def stated_product(a, b):
    """The sum that `matmul` promises, written out."""
    result = None
    for start in range(0, a.shape[1], 256):
        block = np.zeros((len(a), b.shape[1]), a.dtype)
        for k in range(start, min(start + 256, a.shape[1])):
            block += a[:, k, None] * b[k]
        result = block if result is None else result + block
    return result


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("instructions", LEVELS)
def test_every_element_is_the_sum_that_is_stated(monkeypatch, instructions, shape, dtype):
    use_level(monkeypatch, instructions)
    a, b = factors(shape, dtype)
    expected = stated_product(a, b)
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
    names = set()
    for instructions in LEVELS:
        use_level(monkeypatch, instructions)
        names.add(linalg.arithmetic())
        assert linalg.unavailable() is None
    assert names <= {f"kipper linear algebra {linalg.ARITHMETIC}"}
    use_level(monkeypatch, None)
    assert linalg.arithmetic().startswith(f"numpy {np.__version__}; scipy ")
    assert linalg.arithmetic().endswith("; 1 thread")
    assert "workers.native.build" in linalg.unavailable()


def test_a_library_of_another_arithmetic_is_not_used(monkeypatch):
    monkeypatch.setattr(linalg, "ARITHMETIC", linalg.ARITHMETIC + 1)
    assert linalg._loaded.__wrapped__(instruction_sets()) is None
