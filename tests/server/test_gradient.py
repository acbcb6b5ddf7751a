"""The gradient assembled from blocks, against jax.grad of the whole loss."""

import numpy as np
import optax
import pytest
from harness import assembled, distributed_kernel
from installation import needs_neural_tangents
from oracle import loss_and_gradients, relative_error

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.labels import centred_one_hot
from kipper.server import kip
from kipper.server.optimiser import Optimiser
from kipper.server.pool import EVALUATION
from kipper.server.tiling import Tiling

# With the number of target images: 7 leave a ragged block, 4 do not and compile in half the time.
FAMILIES = [
    pytest.param("fc1", (6, 6, 2), 7, marks=needs_neural_tangents),
    pytest.param("fc3", (5, 5, 1), 7, marks=[needs_neural_tangents, pytest.mark.thorough]),
    ("conv_vec2", (6, 6, 2), 7),
    # Plain JAX, the reference without that library, takes half a minute to compile for each.
    # And convnet3 is convnet with a stage less, so it is left to slow runs.
    pytest.param("convnet3", (8, 8, 1), 4, marks=[needs_neural_tangents, pytest.mark.slow]),
    pytest.param("convnet", (9, 8, 2), 4, marks=[needs_neural_tangents, pytest.mark.thorough]),
    pytest.param("myrtle5", (8, 8, 1), 4, marks=[needs_neural_tangents, pytest.mark.thorough]),
]


def _compare(spec, shape, num_targets, tiling, coincide, ridge):
    rng = np.random.default_rng(7)
    images, labels = rng.normal(size=(5, *shape)), rng.normal(size=(5, 3))
    resident = rng.normal(size=(11, *shape)).astype(np.float32)
    if coincide:
        images[2] = images[1]  # in the same block: rows are cut as 0 | 1 2 | 3 4
        images[3] = images[1]  # in another block
        images[4] = resident[2]  # a support image that is a target image too
    rows = np.array([2, 9, 4, 0, 7, 10, 1])[:num_targets]
    targets = rng.normal(size=(num_targets, 3))
    regression, gradient = assembled(spec, (images, labels), resident, rows, targets, tiling, ridge)
    loss, image_gradient, label_gradient = loss_and_gradients(
        spec, images, labels, resident[rows].astype(np.float64), targets, ridge
    )
    assert regression.loss == pytest.approx(loss, rel=1e-12)
    assert relative_error(gradient, image_gradient) < 1e-10
    assert relative_error(regression.cotangents.labels, label_gradient) < 1e-10


@pytest.mark.parametrize(("name", "shape", "num_targets"), FAMILIES)
def test_assembled_gradient_is_that_of_the_whole_loss(name, shape, num_targets):
    spec = KernelSpec(architecture_named(name), "ntk", "float64")
    _compare(spec, shape, num_targets, Tiling(2, 2), coincide=False, ridge=1e-6)


@pytest.mark.parametrize(("name", "shape", "num_targets"), FAMILIES)
def test_assembled_gradient_holds_where_support_images_coincide(name, shape, num_targets):
    spec = KernelSpec(architecture_named(name), "ntk", "float64")
    _compare(spec, shape, num_targets, Tiling(2, 2), coincide=True, ridge=1e-2)


@needs_neural_tangents
def test_assembled_gradient_holds_for_nngp_and_for_one_block():
    spec = KernelSpec(architecture_named("fc2"), "nngp", "float64")
    _compare(spec, (5, 5, 1), 7, Tiling(8, 16), coincide=False, ridge=1e-6)


@pytest.mark.parametrize("name", [pytest.param("fc1", marks=needs_neural_tangents), "conv_vec2"])
def test_the_cross_entropys_gradient_is_that_of_the_whole_loss_and_a_step_descends_it(name):
    spec = KernelSpec(architecture_named(name), "ntk", "float64")
    rng = np.random.default_rng(5)
    resident = rng.normal(size=(8, 6, 6, 2)).astype(np.float32)
    images, labels = rng.normal(size=(5, 6, 6, 2)), rng.normal(size=(5, 3))
    log_temperature, rows = np.array([-1.2]), np.array([5, 0, 7, 2, 4])
    targets = centred_one_hot(rng.integers(0, 3, len(rows)), 3)
    rates = {"images": 0.01, "labels": 0.02, "log_temperature": 0.03}
    adam = Optimiser({name: optax.constant_schedule(rate) for name, rate in rates.items()})
    with distributed_kernel(spec, resident, Tiling(2, 2)) as (kernel, key):
        state = kip.initial_state(images, labels, True, log_temperature)
        regression = kip.loss_at(kernel, state, kip.Targets(key, rows, targets), 1e-4)
        cotangents = regression.cotangents
        found = kernel.gradient(cotangents.k_ss, cotangents.k_ts), *cotangents[2:]
        stepped = kip.update(kernel, state, cotangents, adam)
    loss, *expected = loss_and_gradients(
        spec, images, labels, resident[rows].astype(float), targets, 1e-4, log_temperature
    )
    assert regression.loss == pytest.approx(loss, rel=1e-12)
    for gradient, like in zip(found, expected, strict=True):
        assert relative_error(gradient, like) < 1e-10
    for (name, rate), before, like in zip(rates.items(), state.point, expected, strict=True):
        # Adam's first step; see below.
        moved = before - rate * like / (np.abs(like) + 1e-8)
        np.testing.assert_allclose(getattr(stepped, name), moved, rtol=1e-8)


@needs_neural_tangents
def test_fixed_labels_get_no_update_and_images_get_adams():
    spec = KernelSpec(architecture_named("fc1"), "ntk", "float64")
    rng = np.random.default_rng(0)
    resident = rng.normal(size=(8, 4, 4, 1)).astype(np.float32)
    images, labels = rng.normal(size=(4, 4, 4, 1)), rng.normal(size=(4, 2))
    targets = rng.normal(size=(8, 2))
    with distributed_kernel(spec, resident, Tiling(3, 3)) as (kernel, key):
        state = kip.initial_state(images, labels, learn_labels=False)
        adam = Optimiser({"images": optax.constant_schedule(0.01)})
        regression = kip.loss_at(kernel, state, kip.Targets(key, np.arange(8), targets), 1e-6)
        stepped = kip.update(kernel, state, regression.cotangents, adam)
    assert np.array_equal(stepped.labels, labels)
    _, gradient, _ = loss_and_gradients(
        spec, images, labels, resident.astype(np.float64), targets, 1e-6
    )
    # Adam's first step is the learning rate against the gradient's sign, softened by its epsilon.
    expected = images - 0.01 * gradient / (np.abs(gradient) + 1e-8)
    np.testing.assert_allclose(stepped.images, expected, rtol=1e-9)


@pytest.mark.thorough
def test_gradient_is_a_descent_direction_in_float32_too():
    spec = KernelSpec(architecture_named("convnet3"), "ntk", "float32")
    double = KernelSpec(spec.architecture, "ntk", "float64")
    rng = np.random.default_rng(0)
    resident = rng.normal(size=(9, 8, 8, 1)).astype(np.float32)
    images = rng.normal(size=(4, 8, 8, 1)).astype(np.float32)
    labels, targets = rng.normal(size=(4, 2)), rng.normal(size=(9, 2))
    _, gradient = assembled(
        spec, (images, labels), resident, np.arange(9), targets, Tiling(4, 9), 1e-6
    )
    _, expected, _ = loss_and_gradients(
        double, images.astype(float), labels, resident.astype(float), targets, 1e-6
    )
    assert relative_error(gradient, expected) < 1e-4


def test_the_gradient_remains_while_another_support_is_evaluated():
    spec = KernelSpec(architecture_named("conv_vec2"), "ntk", "float64")
    rng = np.random.default_rng(3)
    resident = rng.normal(size=(8, 6, 6, 2)).astype(np.float32)
    images, other = rng.normal(size=(2, 5, 6, 6, 2))
    rows, cotangents = np.array([5, 0, 7]), (rng.normal(size=(5, 5)), rng.normal(size=(3, 5)))
    with distributed_kernel(spec, resident, Tiling(2, 2)) as (kernel, key):
        kernel.set_support(images)
        kernel.linearise(key, rows)
        expected = kernel.gradient(*cotangents)
        kernel.linearise(key, rows)
        kernel.set_support(other)
        k_ss = kernel.begin_support_matrix(EVALUATION)
        np.testing.assert_array_equal(kernel.gradient(*cotangents), expected)
        found = k_ss()
        kernel.set_support(other.copy())
        np.testing.assert_array_equal(found, kernel.support_matrix())
    assert np.abs(expected).max() > 0
