"""Kernel ridge regression against the plainly written loss and its automatic derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kipper.common.errors import NumericalError
from kipper.common.precision import enable_x64
from kipper.server import krr


def problem(
    seed: int, n: int = 7, t: int = 11, classes: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """K_ss symmetric positive definite, K_ts, y_s and y_t, all float64."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, n + 3))
    k_ss = features @ features.T + 0.1 * np.eye(n)
    return (
        k_ss,
        rng.normal(size=(t, n)),
        rng.normal(size=(n, classes)),
        rng.normal(size=(t, classes)),
    )


def plain_loss(k_ss: Any, k_ts: Any, y_s: Any, y_t: Any, ridge: float) -> Any:
    """The loss as arXiv 2011.00050 writes it, over all entries."""
    n = k_ss.shape[0]
    regularised = k_ss + ridge * jnp.trace(k_ss) / n * jnp.eye(n)
    predictions = k_ts @ jnp.linalg.inv(regularised) @ y_s
    return 0.5 * jnp.mean((predictions - y_t) ** 2)


def check_close(found: np.ndarray, expected: Any) -> None:
    assert found.dtype == np.float64
    scale = np.abs(np.asarray(expected)).max()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * scale)


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.3])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(7, 11, 3), (1, 1, 1), (9, 2, 5)])
def test_loss_and_cotangents(seed: int, ridge: float, shape: tuple[int, int, int]) -> None:
    arguments = problem(seed, *shape)
    found = krr.regress(*arguments, ridge)
    with enable_x64():
        value_and_grad = jax.value_and_grad(plain_loss, argnums=(0, 1, 2))
        loss, (k_ss, k_ts, labels) = value_and_grad(*arguments, ridge)
        assert np.asarray(loss).dtype == np.float64
    assert found.loss == pytest.approx(float(loss), rel=1e-10)
    check_close(found.cotangents.k_ss, k_ss)
    check_close(found.cotangents.k_ts, k_ts)
    check_close(found.cotangents.labels, labels)


def test_predictions_are_those_of_a_plain_solve() -> None:
    k_ss, k_ts, y_s, y_t = problem(5)
    found = krr.regress(k_ss, k_ts, y_s, y_t, 0.0)
    check_close(found.predictions, k_ts @ np.linalg.solve(k_ss, y_s))


def test_the_ridge_is_a_share_of_the_mean_diagonal() -> None:
    k_ss, *_ = problem(1)
    ridged = krr.add_ridge(k_ss, 0.25)
    np.testing.assert_allclose(ridged - k_ss, 0.25 * np.mean(np.diag(k_ss)) * np.eye(7))
    np.testing.assert_allclose(krr.add_ridge(1000 * k_ss, 0.25), 1000 * ridged)
    np.testing.assert_array_equal(krr.Factor(k_ss, 0.25).matrix, ridged)


def test_a_factor_solves() -> None:
    k_ss, _, y_s, _ = problem(2)
    factor = krr.Factor(k_ss, 0.1)
    np.testing.assert_allclose(krr.add_ridge(k_ss, 0.1) @ factor.solve(y_s), y_s, atol=1e-12)


def test_scaling_the_kernel_does_not_change_the_predictions() -> None:
    k_ss, k_ts, y_s, y_t = problem(3)
    found = krr.regress(k_ss, k_ts, y_s, y_t, 1e-3)
    scaled = krr.regress(1e4 * k_ss, 1e4 * k_ts, y_s, y_t, 1e-3)
    np.testing.assert_allclose(scaled.predictions, found.predictions, rtol=1e-9)


def test_single_precision_kernels_are_solved_in_double() -> None:
    k_ss, k_ts, y_s, y_t = problem(4)
    k_ss, k_ts = k_ss.astype(np.float32), k_ts.astype(np.float32)
    found = krr.regress(k_ss, k_ts, y_s, y_t, 1e-6)
    exact = krr.regress(k_ss.astype(np.float64), k_ts.astype(np.float64), y_s, y_t, 1e-6)
    for array, expected in zip(
        (found.predictions, *found.cotangents[:3]),
        (exact.predictions, *exact.cotangents[:3]),
        strict=True,
    ):
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, expected)
    assert found.loss == exact.loss


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_kernel_that_is_not_finite_is_refused_with_remedies(value: float) -> None:
    k_ss, k_ts, y_s, y_t = problem(6)
    k_ss[2, 4] = value
    with pytest.raises(NumericalError, match=r"not finite.*--learning_rate") as caught:
        krr.regress(k_ss, k_ts, y_s, y_t, 1e-6)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", ["k_ts", "y_s"])
def test_other_arguments_that_are_not_finite_are_refused_too(which: str) -> None:
    k_ss, k_ts, y_s, y_t = problem(6)
    {"k_ts": k_ts, "y_s": y_s}[which][1, 1] = np.nan
    with pytest.raises(NumericalError, match="not finite"):
        krr.regress(k_ss, k_ts, y_s, y_t, 1e-6)


@pytest.mark.parametrize("ridge", [0.0, 1e-6])
def test_an_indefinite_kernel_is_refused_with_remedies(ridge: float) -> None:
    k_ss, k_ts, y_s, y_t = problem(7)
    values, vectors = np.linalg.eigh(k_ss)
    values[0] = -0.5
    with pytest.raises(NumericalError) as caught:
        krr.regress(vectors @ np.diag(values) @ vectors.T, k_ts, y_s, y_t, ridge)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for remedy in (f"ridge {ridge:g}", "--ridge", "--kernel_dtype=float64", "--seed"):
        assert remedy in sentence
    assert "--learning_rate" in sentence


def test_a_larger_ridge_cures_an_indefinite_kernel() -> None:
    k_ss = np.diag([1.0, 1.0, -0.01])
    with pytest.raises(NumericalError):
        krr.Factor(k_ss, 1e-3)
    krr.Factor(k_ss, 0.1)


@pytest.mark.parametrize("value", [0.0, 0.02, 0.03])
def test_images_that_coincide_without_ridge_are_said_not_to_be_solvable(value: float) -> None:
    # Of 0.03, rounding leaves tiny positive pivots, and derivatives beyond float32.
    k_ss = np.full((10, 10), np.float32(value), np.float64)
    k_ts, y_s, y_t = np.full((4, 10), value), np.eye(10)[:, :2], np.eye(4)[:, :2]
    with pytest.raises(NumericalError, match="support images coincide"):
        krr.regress(k_ss, k_ts, y_s, y_t, ridge=0.0)
