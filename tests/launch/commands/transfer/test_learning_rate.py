"""The largest stable learning rate: known cases, and that training is stable just below it only."""

import jax
import numpy as np
import pytest

from kipper.common.architecture import Architecture, Dense, Flatten, architecture_named
from kipper.launch.commands.transfer.learning_rate import largest_stable_rate
from kipper.launch.commands.transfer.network import finite_network

LINEAR = Architecture("linear", (Flatten(), Dense()))
IMAGES = np.random.default_rng(0).normal(0.3, 1, (12, 3, 2, 1)).astype(np.float32)


def rate_of(architecture, outputs, width=16):
    network = finite_network(architecture, width, outputs)
    parameters = network.init(jax.random.PRNGKey(0), IMAGES)
    return largest_stable_rate(network.apply, parameters, IMAGES), network, parameters


@pytest.mark.parametrize("outputs", [1, 4])
def test_linear_network_agrees_with_its_gram_matrix(outputs):
    rows = IMAGES.reshape(len(IMAGES), -1)
    gram = rows @ rows.T + 1  # the bias has the feature 1
    expected = 2 * len(rows) * outputs / np.linalg.eigvalsh(gram)[-1]
    assert rate_of(LINEAR, outputs)[0] == pytest.approx(expected, rel=1e-3)


def test_gradient_descent_on_a_linear_network_is_stable_below_it_and_not_above():
    rate, network, parameters = rate_of(LINEAR, 4)
    targets = np.random.default_rng(1).normal(size=(len(IMAGES), 4)).astype(np.float32)

    def loss(parameters):
        return 0.5 * ((network.apply(parameters, IMAGES) - targets) ** 2).mean()

    @jax.jit
    def descended(parameters, rate):
        return jax.tree.map(lambda p, g: p - rate * g, parameters, jax.grad(loss)(parameters))

    losses = {}
    for share in (0.98, 1.03):
        now = parameters
        for _ in range(400):
            now = descended(now, share * rate)
        losses[share] = float(loss(now))
    assert losses[0.98] < float(loss(parameters))
    assert losses[1.03] > 1e3 * float(loss(parameters))


def test_convolutional_network_agrees_with_its_whole_empirical_kernel():
    rng = np.random.default_rng(2)
    images = rng.normal(0.3, 1, (7, 8, 8, 1)).astype(np.float32)
    network = finite_network(architecture_named("conv_vec1"), 8, 3)
    parameters = jax.jit(network.init)(jax.random.PRNGKey(1), images)

    @jax.jit
    @jax.jacrev
    def jacobian_of(parameters):
        return network.apply(parameters, images).sum(axis=1) / 3**0.5

    jacobian = jacobian_of(parameters)
    rows = np.concatenate([np.reshape(j, (7, -1)) for j in jax.tree.leaves(jacobian)], axis=1)
    expected = 2 * 7 * 3 / np.linalg.eigvalsh(rows @ rows.T)[-1]
    rate = largest_stable_rate(network.apply, parameters, images)
    assert rate == pytest.approx(expected, rel=1e-3)
