"""Steps of KIP's variants: solved labels, and pixels that are not learned."""

import numpy as np
import optax
import pytest
from harness import distributed_kernel
from installation import needs_neural_tangents
from oracle import least_loss_and_gradient, relative_error

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.labels import centred_one_hot
from kipper.server import kip, krr, label_solve
from kipper.server.optimiser import Optimiser
from kipper.server.tiling import Tiling

RIDGE = 1e-3
SPEC = KernelSpec(architecture_named("fc1"), "ntk", "float64")


@pytest.fixture
def problem():
    """Images, labels, resident images, and the rows of a batch with their targets."""
    rng = np.random.default_rng(3)
    images, labels = rng.normal(size=(5, 6, 6, 2)), rng.normal(size=(5, 3))
    resident = rng.normal(size=(11, 6, 6, 2)).astype(np.float32)
    rows = np.array([2, 9, 4, 0, 7, 10, 1, 3])
    return images, labels, resident, rows, centred_one_hot(rng.integers(0, 3, len(rows)), 3)


@needs_neural_tangents
def test_solved_labels_are_those_of_label_solve_with_the_gradient_of_the_minimum(problem):
    images, labels, resident, rows, targets = problem
    with distributed_kernel(SPEC, resident, Tiling(2, 3)) as (kernel, key):
        batch = kip.Targets(key, rows, targets)
        before = kip.initial_state(images, labels, learn_labels=False)
        state, regression = kip.solved_loss_at(kernel, before, batch, RIDGE)
        cotangents = regression.cotangents
        gradient = kernel.gradient(cotangents.k_ss, cotangents.k_ts)
        k_ss, k_ts = kernel.linearise(key, rows)
    solved = label_solve.solve_labels(
        k_ss, label_solve.batch_moments(k_ts, targets), RIDGE, "paper"
    )
    np.testing.assert_array_equal(state.labels, solved)
    np.testing.assert_array_equal(state.images, images)
    loss, expected = least_loss_and_gradient(SPEC, images, resident[rows], targets, RIDGE)
    assert regression.loss == pytest.approx(loss, rel=1e-10)
    assert relative_error(gradient, expected) < 1e-7
    # The gradient of the labels vanishes there, and with it that of K_ss.
    fixed = krr.regress(k_ss, k_ts, labels, targets, RIDGE).cotangents
    assert np.abs(cotangents.labels).max() < 1e-9 * np.abs(fixed.labels).max()
    assert np.abs(cotangents.k_ss).max() < 1e-9 * np.abs(fixed.k_ss).max()


def test_no_change_of_solved_labels_lowers_the_loss(problem):
    images, labels, resident, rows, targets = problem
    with distributed_kernel(SPEC, resident, Tiling(5, 8), engine="auto") as (kernel, key):
        batch = kip.Targets(key, rows, targets)
        before = kip.initial_state(images, labels, learn_labels=False)
        state, regression = kip.solved_loss_at(kernel, before, batch, RIDGE)
        assert regression.loss < kip.loss_at(kernel, before, batch, RIDGE).loss
        rng = np.random.default_rng(0)
        for scale in (1e-3, 1e-1, 1.0):
            changed = state._replace(labels=state.labels + scale * rng.normal(size=labels.shape))
            worse = kip.loss_at(kernel, changed, batch, RIDGE)
            assert worse.loss > regression.loss


def test_solved_labels_stay_until_they_are_solved_again(problem):
    images, labels, resident, rows, targets = problem
    adam = Optimiser({"images": optax.constant_schedule(0.1)})
    with distributed_kernel(SPEC, resident, Tiling(5, 8), engine="auto") as (kernel, key):
        batch = kip.Targets(key, rows, targets)
        state = kip.initial_state(images, labels, learn_labels=False)
        state, regression = kip.solved_loss_at(kernel, state, batch, RIDGE)
        stepped = kip.update(kernel, state, regression.cotangents, adam)
    np.testing.assert_array_equal(stepped.labels, state.labels)
    assert (stepped.images != images).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_frozen_pixels_keep_their_bits_and_the_others_are_learned(problem, dtype):
    images, labels, resident, rows, targets = problem
    images = images.astype(dtype)
    frozen = np.random.default_rng(1).random((5, 6, 6, 1)) < 0.7
    everywhere = np.broadcast_to(frozen, images.shape)
    images.reshape(-1)[np.flatnonzero(everywhere)[:4]] = [-0.0, 0.0, 1e-40, 30.0]
    adam = Optimiser(dict.fromkeys(("images", "labels"), optax.constant_schedule(0.1)))
    spec = KernelSpec(SPEC.architecture, "ntk", dtype)
    with distributed_kernel(spec, resident, Tiling(5, 8), engine="auto") as (kernel, key):
        batch = kip.Targets(key, rows, targets)
        state = kip.initial_state(images, labels, learn_labels=True)
        free = state
        for _ in range(3):
            regression = kip.loss_at(kernel, state, batch, RIDGE)
            state = kip.update(kernel, state, regression.cotangents, adam, frozen)
        regression = kip.loss_at(kernel, free, batch, RIDGE)
        first = kip.update(kernel, free, regression.cotangents, adam)
        first_frozen = kip.update(kernel, free, regression.cotangents, adam, frozen)
    assert state.images.dtype == dtype
    assert state.images[everywhere].tobytes() == images[everywhere].tobytes()
    assert (state.images[~everywhere] != images[~everywhere]).all()
    assert (state.labels != labels).all()
    # The other pixels change as they would without frozen ones.
    np.testing.assert_array_equal(first_frozen.images[~everywhere], first.images[~everywhere])
