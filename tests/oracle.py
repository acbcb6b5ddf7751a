"""Kernel ridge regression in plain JAX, with reference kernels in float64.

Tests compare the gradients that kipper assembles from blocks with `jax.grad` of these functions.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from installation import NEURAL_TANGENTS

from kipper.common.architecture import KernelSpec
from kipper.common.precision import enable_x64
from kipper.workers.banded_xla import cross_kernel, variance_maps
from kipper.workers.bands import BandedNetwork, banded_network


def untouched_kernel(spec: KernelSpec):
    """The kernel by neural-tangents' own layers, without kipper's rule for coincident images."""
    from kipper.workers.neural_tangents import stax

    w, b = spec.architecture.w_std, spec.architecture.b_std
    layers = {
        "Conv": lambda: stax.Conv(1, (3, 3), padding="SAME", W_std=w, b_std=b),
        "Relu": stax.Relu,
        "LeakyRelu": lambda: stax.LeakyRelu(0.01),
        "Erf": stax.Erf,
        "Gelu": stax.Gelu,
        "AvgPool": lambda: stax.AvgPool((2, 2), strides=(2, 2)),
        "Flatten": stax.Flatten,
        "GlobalAvgPool": stax.GlobalAvgPool,
        "Dense": lambda: stax.Dense(1, W_std=w, b_std=b),
    }
    made = [layers[type(layer).__name__]() for layer in spec.architecture.layers]
    kernel_fn = stax.serial(*made)[2]
    return lambda x1, x2: kernel_fn(x1, x2, spec.kind)


def reference_kernel(spec: KernelSpec):
    """(x1, x2) -> K, by neural-tangents, or by plain JAX if that is not installed.

    Tests compare plain JAX with neural-tangents where it is installed, and with its stored kernels
    everywhere.
    """
    if NEURAL_TANGENTS:
        from kipper.workers.neural_tangents import kernel_function

        return kernel_function(spec)

    def kernel(x1, x2):
        return banded_kernel(banded_network(spec.architecture, *x1.shape[1:3]), spec.kind)(x1, x2)

    return kernel


def banded_kernel(network: BandedNetwork, kind: str, at_once: bool = False):
    """(x1, x2) -> K, by the banded algorithm in plain JAX, variance maps included."""

    def kernel(x1, x2):
        v1, v2 = (variance_maps(network, images, at_once=at_once) for images in (x1, x2))
        return cross_kernel(network, kind, x1, v1, x2, v2, at_once=at_once)

    return kernel


def loss_and_gradients(spec, images, labels, x_target, y_target, ridge, log_temperature=None):
    """The loss, and its gradient with respect to support images and labels; all float64.

    With `log_temperature` (1,) it is the cross-entropy, and the gradient with respect to that
    comes last.
    """
    kernel = reference_kernel(spec)

    def loss(images, labels, *log_temperature):
        k_ss = kernel(images, images)
        regularised = k_ss + ridge * jnp.trace(k_ss) / len(k_ss) * jnp.eye(len(k_ss))
        predictions = kernel(x_target, images) @ jnp.linalg.solve(regularised, labels)
        if log_temperature:
            logits, classes = predictions / jnp.exp(log_temperature[0]), y_target.argmax(1)
            return optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()
        return 0.5 * jnp.mean((predictions - y_target) ** 2)

    learned = (images, labels, *([] if log_temperature is None else [log_temperature]))
    with enable_x64():
        value, gradients = jax.jit(jax.value_and_grad(loss, range(len(learned))))(*learned)
        return float(value), *map(np.asarray, gradients)


def least_loss_and_gradient(spec, images, x_target, y_target, ridge):
    """The loss with the labels that minimise it, and its gradient through the solve for them."""
    kernel = reference_kernel(spec)

    def loss(images):
        k_ss = kernel(images, images)
        regularised = k_ss + ridge * jnp.trace(k_ss) / len(k_ss) * jnp.eye(len(k_ss))
        predictor = kernel(x_target, images) @ jnp.linalg.inv(regularised)
        labels = jnp.linalg.solve(predictor.T @ predictor, predictor.T @ y_target)
        return 0.5 * jnp.mean((predictor @ labels - y_target) ** 2)

    with enable_x64():
        value, gradient = jax.jit(jax.value_and_grad(loss))(images)
        return float(value), np.asarray(gradient)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest expected entry."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())
