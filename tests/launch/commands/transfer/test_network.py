"""The kernels of finite networks converge to the exact ones as the networks widen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import stored_kernels

from kipper.common.architecture import Architecture, architecture_named
from kipper.common.errors import UserError
from kipper.launch.commands.transfer.network import finite_network

OUTPUTS, NETWORKS = 2, 4
IMAGES = np.random.default_rng(0).normal(size=(5, 2, 2, 1)).astype(np.float32)


def in_order(layers):
    """Parameters of each layer, from the image on."""
    names = sorted(layers, key=lambda name: int(name.removeprefix("layers_")))
    return [layers[name] for name in names]


def finite_kernel(name, kind, x1, x2, width):
    """The empirical tangent kernel in the NTK parameterisation, mean over outputs and networks.

    A weight there is drawn from N(0, 1) and multiplied by w_std / sqrt(fan-in), a bias by b_std, so
    its derivative is the derivative here times that. Of the read-out alone it is the NNGP kernel.
    """
    architecture = architecture_named(name)
    network = finite_network(architecture, width, OUTPUTS)
    both = jnp.asarray(np.concatenate([x1, x2]), jnp.float32)
    init, jacobian = jax.jit(network.init), jax.jit(jax.jacrev(network.apply))
    total = 0.0
    for seed in range(NETWORKS):
        layers = jacobian(init(jax.random.PRNGKey(seed), both), both)["params"]
        layers = in_order(layers)
        for layer in layers[-1:] if kind == "nngp" else layers:
            weights, biases = layer["kernel"], layer["bias"]
            fan_in = np.prod(weights.shape[2:-1])
            for scaled in (weights * architecture.w_std / fan_in**0.5, biases * architecture.b_std):
                flat = np.asarray(scaled).reshape(len(both), OUTPUTS, -1)
                total += np.einsum("icp,jcp->ij", flat, flat, optimize=True)
    return total[: len(x1), len(x1) :] / (OUTPUTS * NETWORKS)


def error(name, kind, width):
    x1, x2, _, exact, *_ = stored_kernels.stored(name, kind)
    return np.abs(finite_kernel(name, kind, x1, x2, width) - exact).max() / np.abs(exact).max()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fc1", "ntk"),
        pytest.param("convnet3", "ntk", marks=pytest.mark.thorough),
        pytest.param("convnet", "ntk", marks=pytest.mark.slow),
        pytest.param("convnet3", "nngp", marks=pytest.mark.slow),
        pytest.param("myrtle5", "ntk", marks=pytest.mark.slow),
    ],
)
def test_the_kernel_of_wide_networks_is_close_to_that_of_neural_tangents(name, kind):
    assert error(name, kind, width=256) < 0.15


def test_the_wider_a_network_the_closer_its_kernel():
    assert error("fc1", "ntk", width=1024) < 0.3 * error("fc1", "ntk", width=8)


def test_parameters_are_drawn_with_the_deviations_of_the_standard_parameterisation():
    network = finite_network(architecture_named("conv_vec2"), 64, 10)
    parameters = jax.jit(network.init)(jax.random.PRNGKey(0), jnp.zeros((1, 4, 4, 3)))
    drawn = in_order(parameters["params"])
    fan_ins = [9 * 3, 9 * 64, 16 * 64]
    for layer, fan_in in zip(drawn, fan_ins, strict=True):
        assert np.std(layer["kernel"]) == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
    biases = np.concatenate([layer["bias"] for layer in drawn])
    assert np.std(biases) == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("fc1", lambda x: np.maximum(x, 0)),
        ("fc1_leaky", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("fc1_erf", scipy.special.erf),
        ("fc1_gelu", lambda x: x * scipy.stats.norm.cdf(x)),
    ],
)
def test_nonlinearities_are_what_they_are_called(name, function):
    network = finite_network(architecture_named(name), 16, 3)
    parameters = network.init(jax.random.PRNGKey(0), IMAGES)
    hidden, readout = in_order(parameters["params"])
    units = function(IMAGES.reshape(5, -1) @ hidden["kernel"] + hidden["bias"])
    expected = units @ readout["kernel"] + readout["bias"]
    np.testing.assert_allclose(network.apply(parameters, IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_an_infinite_network_of_a_file_has_no_finite_one():
    with pytest.raises(UserError, match="architectures that have a name"):
        finite_network(Architecture("mine.py:make", ()), 8, 2)
