"""Losses and their derivatives against optax and `jax.grad`, and against the plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kipper.common.labels import centred_one_hot
from kipper.common.precision import enable_x64
from kipper.server import krr
from kipper.server.losses import CrossEntropy, loss_with, squared


def plain_loss(k_ss, k_ts, y_s, log_temperature, classes, ridge):
    """The cross-entropy of a set's predictions over its temperature, by optax."""
    n = k_ss.shape[0]
    regularised = k_ss + ridge * jnp.trace(k_ss) / n * jnp.eye(n)
    logits = k_ts @ jnp.linalg.inv(regularised) @ y_s / jnp.exp(log_temperature)
    return optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()


@pytest.mark.parametrize("temperature", [0.02, 0.1, 3.0])
@pytest.mark.parametrize("shape", [(7, 11, 3), (1, 1, 1), (9, 2, 5)])
def test_the_cross_entropy_of_a_regression_and_its_cotangents(shape, temperature):
    n, t, num_classes = shape
    rng = np.random.default_rng(3)
    features = rng.normal(size=(n, n + 3))
    k_ss, k_ts = features @ features.T + 0.1 * np.eye(n), rng.normal(size=(t, n))
    y_s, classes = rng.normal(size=(n, num_classes)), rng.integers(0, num_classes, t)
    log_temperature, y_t = np.log([temperature]), centred_one_hot(classes, num_classes)
    found = krr.regress(k_ss, k_ts, y_s, y_t, 1e-3, CrossEntropy(log_temperature))
    with enable_x64():
        value_and_grad = jax.value_and_grad(plain_loss, argnums=(0, 1, 2, 3))
        loss, expected = value_and_grad(k_ss, k_ts, y_s, log_temperature[0], classes, 1e-3)
    assert found.loss == pytest.approx(float(loss), rel=1e-12, abs=1e-15)
    for each, like in zip(found.cotangents, expected, strict=True):
        assert each.dtype == np.float64
        scale = np.abs(like).max()
        np.testing.assert_allclose(each, np.reshape(like, each.shape), atol=1e-10 * scale + 1e-15)


def test_far_too_low_a_temperature_gives_numbers_all_the_same():
    predictions, values = np.array([[3.0, -3.0], [-3.0, 3.0]]), centred_one_hot(np.zeros(2, int), 2)
    found = CrossEntropy(np.array([-20.0]))(predictions, values)
    assert found.value == pytest.approx(3 * np.exp(20.0))
    np.testing.assert_allclose(found.predictions, [[0, 0], [-np.exp(20) / 2, np.exp(20) / 2]])


def test_predicting_nothing_costs_the_logarithm_of_the_number_of_classes():
    values = centred_one_hot(np.arange(6) % 3, 3)
    assert CrossEntropy(np.zeros(1))(np.zeros((6, 3)), values).value == pytest.approx(np.log(3))


def test_the_loss_follows_from_whether_there_is_a_temperature():
    assert loss_with(None) is squared
    assert isinstance(loss_with(np.zeros(1)), CrossEntropy)
