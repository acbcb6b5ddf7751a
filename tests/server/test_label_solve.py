"""Label Solve against least squares, and its sums over targets against direct evaluation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from kipper.common.errors import NumericalError
from kipper.common.labels import centred_one_hot
from kipper.server import krr, label_solve
from kipper.server.label_solve import (
    Moments,
    add_targets,
    no_moments,
    solve_labels,
    target_loss,
)

N, T, CLASSES = 6, 40, 3
RIDGE = 1e-3


class ChunkedKernel:
    """A stand-in for `DistributedKernel` with a given K_ts."""

    def __init__(self, k_ts: np.ndarray, chunk: int):
        self._k_ts, self._chunk = k_ts, chunk

    def target_chunks(
        self, key: str, rows: np.ndarray, start: int
    ) -> Iterator[tuple[slice, np.ndarray]]:
        assert key == "target"
        for first in range(0, len(rows), self._chunk):
            span = slice(first, min(first + self._chunk, len(rows)))
            if first >= start:
                yield span, self._k_ts[rows[span]]


def problem(seed: int, duplicated: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K_ss, K_ts and the classes of the targets; the kernel is a Gaussian of random points."""
    rng = np.random.default_rng(seed)
    support, target = rng.normal(size=(N, 4)), rng.normal(size=(T, 4))
    if duplicated:
        support[-1] = support[0]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-0.1 * ((a[:, None] - b[None]) ** 2).sum(-1))

    return kernel(support, support), kernel(target, support), rng.integers(0, CLASSES, T)


def growing_moments(k_ts: np.ndarray, classes: np.ndarray, chunk: int = 7) -> list[Moments]:
    kernel: Any = ChunkedKernel(k_ts, chunk)
    return list(add_targets(no_moments(N, CLASSES), kernel, "target", classes))


def moments_of(k_ts: np.ndarray, classes: np.ndarray, chunk: int = 7) -> Moments:
    return growing_moments(k_ts, classes, chunk)[-1]


def least_squares(k_ss: np.ndarray, k_ts: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The least-norm labels that minimise |K_ts A^-1 y - y_t|."""
    predictor = k_ts @ np.linalg.inv(krr.add_ridge(k_ss, RIDGE))
    return np.linalg.lstsq(predictor, centred_one_hot(classes, CLASSES), rcond=1e-9)[0]


@pytest.mark.parametrize("chunk", [1, 7, 40, 100])
def test_moments_are_those_of_the_whole_matrix(chunk: int) -> None:
    _, k_ts, classes = problem(0)
    targets = centred_one_hot(classes, CLASSES)
    moments = moments_of(k_ts, classes, chunk)
    np.testing.assert_allclose(moments.gram, k_ts.T @ k_ts, rtol=1e-12)
    np.testing.assert_allclose(moments.cross, k_ts.T @ targets, rtol=1e-12, atol=1e-12)
    assert moments.square == pytest.approx(np.sum(targets**2))
    assert moments.num_targets == T


def test_resumed_sums_have_the_same_bits() -> None:
    _, k_ts, classes = problem(1)
    kernel: Any = ChunkedKernel(k_ts, 7)
    whole = growing_moments(k_ts, classes)
    assert [moments.num_targets for moments in whole] == [7, 14, 21, 28, 35, 40]
    for moments in whole[:-1]:
        *_, last = add_targets(moments, kernel, "target", classes)
        assert [np.asarray(a).tobytes() for a in last] == [
            np.asarray(a).tobytes() for a in whole[-1]
        ]
    assert list(add_targets(whole[-1], kernel, "target", classes)) == []
    assert whole[0].num_targets == 7  # and earlier ones are left as they were


@pytest.mark.parametrize("seed", range(4))
def test_paper_labels_are_those_of_least_squares(seed: int) -> None:
    k_ss, k_ts, classes = problem(seed)
    labels = solve_labels(k_ss, moments_of(k_ts, classes), RIDGE, "paper")
    assert labels.dtype == np.float64
    np.testing.assert_allclose(labels, least_squares(k_ss, k_ts, classes), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_paper_labels_of_coinciding_images_have_the_least_norm(seed: int) -> None:
    k_ss, k_ts, classes = problem(seed, duplicated=True)
    labels = solve_labels(k_ss, moments_of(k_ts, classes), RIDGE, "paper")
    np.testing.assert_allclose(labels, least_squares(k_ss, k_ts, classes), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(labels[0], labels[-1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("duplicated", [False, True])
def test_no_change_of_paper_labels_lowers_the_loss(duplicated: bool) -> None:
    k_ss, k_ts, classes = problem(9, duplicated)
    targets = centred_one_hot(classes, CLASSES)
    labels = solve_labels(k_ss, moments_of(k_ts, classes), RIDGE, "paper")
    best = krr.regress(k_ss, k_ts, labels, targets, RIDGE)
    natural = centred_one_hot(np.arange(N) % CLASSES, CLASSES)
    assert best.loss < krr.regress(k_ss, k_ts, natural, targets, RIDGE).loss
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1e-1, 1.0):
        changed = labels + scale * rng.normal(size=labels.shape)
        assert krr.regress(k_ss, k_ts, changed, targets, RIDGE).loss >= best.loss


def test_notebook_labels_follow_the_released_formula() -> None:
    k_ss, k_ts, classes = problem(3)
    k_st, targets = k_ts.T, centred_one_hot(classes, CLASSES)
    ridge = 1e-6 / N * np.eye(N)
    expected = (k_ss + ridge) @ np.linalg.inv(k_st @ k_ts + ridge) @ k_st @ targets
    labels = solve_labels(k_ss, moments_of(k_ts, classes), RIDGE, "notebook")
    np.testing.assert_allclose(labels, expected, rtol=1e-7, atol=1e-9)


def test_notebook_labels_do_not_depend_on_the_ridge() -> None:
    k_ss, k_ts, classes = problem(3)
    moments = moments_of(k_ts, classes)
    first = solve_labels(k_ss, moments, 1e-6, "notebook")
    np.testing.assert_array_equal(first, solve_labels(k_ss, moments, 0.1, "notebook"))
    paper = solve_labels(k_ss, moments, 0.1, "paper")
    assert np.abs(first - paper).max() > 1e-3


def test_target_loss_is_that_of_direct_evaluation() -> None:
    k_ss, k_ts, classes = problem(4)
    targets = centred_one_hot(classes, CLASSES)
    labels = np.random.default_rng(1).normal(size=(N, CLASSES))
    coefficients = krr.Factor(k_ss, RIDGE).solve(labels)
    direct = 0.5 * np.mean((k_ts @ coefficients - targets) ** 2)
    loss = target_loss(moments_of(k_ts, classes), coefficients)
    assert loss == pytest.approx(direct, rel=1e-9)
    assert loss == pytest.approx(krr.regress(k_ss, k_ts, labels, targets, RIDGE).loss, rel=1e-9)


@pytest.mark.parametrize("convention", ["paper", "notebook"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_kernels_that_are_not_finite_are_refused(convention: str, value: float) -> None:
    k_ss, k_ts, classes = problem(5)
    moments = moments_of(k_ts, classes)
    spoilt = k_ss.copy()
    spoilt[1, 2] = value
    with pytest.raises(NumericalError, match="not finite"):
        solve_labels(spoilt, moments, RIDGE, convention)
    gram = moments.gram.copy()
    gram[0, 0] = value
    with pytest.raises(NumericalError, match="not finite"):
        solve_labels(k_ss, moments._replace(gram=gram), RIDGE, convention)


def test_targets_without_any_similarity_give_zero_labels() -> None:
    k_ss, k_ts, classes = problem(6)
    labels = label_solve.solve_labels(k_ss, moments_of(0 * k_ts, classes), RIDGE, "paper")
    np.testing.assert_array_equal(labels, np.zeros((N, CLASSES)))
