"""Training steps against explicit formulas, batches, losses, and convergence."""

import jax
import numpy as np
import optax
import pytest

from kipper.common.architecture import Architecture, Dense, Flatten, KernelSpec, architecture_named
from kipper.common.errors import NumericalError
from kipper.launch.commands.transfer import training
from kipper.launch.commands.transfer.learning_rate import largest_stable_rate
from kipper.launch.commands.transfer.network import finite_network
from kipper.launch.commands.transfer.training import Protocol, batch_rows, predict, train
from kipper.workers import dense_engine
from kipper.workers.engine import PreparedImages

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 2, 2, 1)).astype(np.float32)
LABELS = RNG.normal(size=(6, 3)).astype(np.float32)


def linear_network():
    network = finite_network(Architecture("linear", (Flatten(), Dense())), 8, 3)
    return network, network.init(jax.random.PRNGKey(0), IMAGES)


def weights_of(parameters):
    """Weights with the bias as their last row, float64."""
    (layer,) = parameters["params"].values()
    return np.concatenate([layer["kernel"], layer["bias"][None]]).astype(np.float64)


def test_steps_are_momentum_with_weight_decay_and_a_cosine():
    network, parameters = linear_network()
    protocol = Protocol("mse", steps=5, l2=0.3, batch_size=100)
    snapshots = [*train(network.apply, parameters, IMAGES, LABELS, protocol, rate=0.2, seed=0)]
    rows = np.concatenate([IMAGES.reshape(6, -1), np.ones((6, 1))], axis=1)
    weights = weights_of(parameters)
    velocity = np.zeros_like(weights)
    for step in range(5):
        gradient = rows.T @ (rows @ weights - LABELS) / LABELS.size + 0.3 * weights
        velocity = 0.9 * velocity + gradient
        weights = weights - 0.2 * 0.5 * (1 + np.cos(np.pi * step / 5)) * velocity
        assert snapshots[step + 1].step == step + 1
        found = weights_of(snapshots[step + 1].parameters)
        np.testing.assert_allclose(found, weights, rtol=1e-4, atol=1e-5)


def test_the_cosine_falls_from_the_rate_to_zero():
    schedule = optax.cosine_decay_schedule(0.5, 8)
    np.testing.assert_allclose([schedule(s) for s in (0, 4, 8)], [0.5, 0.25, 0.0], atol=1e-7)


def test_the_cross_entropy_is_that_of_the_largest_label():
    outputs, labels = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4))
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(5), labels.argmax(axis=1)]).mean()
    found = training.LOSSES["cross_entropy"](outputs, labels)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_set_that_fits_into_a_batch_is_one():
    assert batch_rows(100, 100, step=7, seed=0) is None


def test_each_image_is_in_one_batch_of_an_epoch_and_epochs_differ():
    def epoch(first, seed=0):
        return np.concatenate([batch_rows(12, 4, first + i, seed) for i in range(3)])

    assert sorted(epoch(0)) == sorted(epoch(3)) == [*range(12)]
    assert epoch(0).tolist() == epoch(0).tolist()
    assert epoch(0).tolist() != epoch(3).tolist()
    assert epoch(0).tolist() != epoch(0, seed=1).tolist()


def test_batches_are_what_is_trained_on():
    network, parameters = linear_network()
    protocol = Protocol("mse", steps=1, l2=0.0, batch_size=2)
    *_, (_, found) = train(network.apply, parameters, IMAGES, LABELS, protocol, rate=0.1, seed=3)
    rows = batch_rows(6, 2, step=0, seed=3)
    whole = Protocol("mse", steps=1, l2=0.0, batch_size=6)
    part = IMAGES[rows], LABELS[rows]
    *_, (_, expected) = train(network.apply, parameters, *part, whole, rate=0.1, seed=0)
    np.testing.assert_allclose(weights_of(found), weights_of(expected), rtol=1e-6)


def test_predictions_in_parts_are_those_of_the_whole(monkeypatch):
    network, parameters = linear_network()
    whole = network.apply(parameters, IMAGES)
    monkeypatch.setattr(training, "CHANNELS_AT_ONCE", 32)
    parts = predict(network.apply, parameters, IMAGES, width=8)
    np.testing.assert_allclose(parts, whole, rtol=1e-6, atol=1e-6)


def test_divergence_is_said_at_once():
    network, parameters = linear_network()
    protocol = Protocol("mse", steps=1000, l2=0.0, batch_size=100)
    with pytest.raises(NumericalError, match=r"diverged at step \d+ of seed 4.*--max_lr_factor"):
        for _ in train(network.apply, parameters, IMAGES, LABELS, protocol, rate=1e4, seed=4):
            pass


@pytest.mark.thorough
def test_a_wide_network_without_decay_becomes_the_kernel_regression():
    """What it predicts, less what it predicted at first, once that is added to the labels.

    In the standard parameterisation the read-out's weights alone train as the width grows, so the
    kernel is the NNGP's without its bias.
    """
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(6, 6, 6, 1)), rng.normal(size=(6, 3))
    unseen = rng.normal(size=(9, 6, 6, 1))
    architecture = architecture_named("fc1")
    network = finite_network(architecture, 4096, 3)
    parameters = network.init(jax.random.PRNGKey(0), images)
    first, first_unseen = (network.apply(parameters, x) for x in (images, unseen))
    protocol = Protocol("mse", steps=300, l2=0.0, batch_size=100)
    rate = largest_stable_rate(network.apply, parameters, images)
    *_, (_, last) = train(network.apply, parameters, images, labels + first, protocol, rate, 0)
    found = network.apply(last, unseen) - first_unseen
    engine = dense_engine.make_engine(KernelSpec(architecture, "nngp", "float64"), threads=1)
    support, tests = (PreparedImages(x, engine.features(x)) for x in (images, unseen))
    k_ss, k_ts = (engine.block(x, support) - architecture.b_std**2 for x in (support, tests))
    expected = k_ts @ np.linalg.solve(k_ss, labels)
    assert np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected)
