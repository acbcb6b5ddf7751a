"""Kernel ridge regression written down plainly, through reference kernels in float64.

What kipper assembles from blocks and cotangents is compared with `jax.grad` of this.
"""

import jax
import jax.numpy as jnp
import numpy as np
from installation import NEURAL_TANGENTS

from kipper.common.architecture import KernelSpec
from kipper.common.precision import enable_x64
from kipper.workers.banded_xla import banded_kernel
from kipper.workers.bands import banded_network


def untouched_kernel(spec: KernelSpec):
    """The kernel by neural-tangents' own layers, written again here."""
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
    """(x1, x2) -> K, by neural-tangents; by plain JAX where that is not installed.

    Plain JAX is held to it by tests where it is, and to kernels stored of it everywhere.
    """
    if NEURAL_TANGENTS:
        from kipper.workers.neural_tangents import kernel_function

        return kernel_function(spec)

    def kernel(x1, x2):
        return banded_kernel(banded_network(spec.architecture, *x1.shape[1:3]), spec.kind)(x1, x2)

    return kernel


def loss_and_gradients(spec, images, labels, x_target, y_target, ridge):
    """The loss, and its gradient with respect to support images and labels; all float64."""
    kernel = reference_kernel(spec)

    def loss(images, labels):
        k_ss = kernel(images, images)
        regularised = k_ss + ridge * jnp.trace(k_ss) / len(k_ss) * jnp.eye(len(k_ss))
        predictions = kernel(x_target, images) @ jnp.linalg.solve(regularised, labels)
        return 0.5 * jnp.mean((predictions - y_target) ** 2)

    with enable_x64():
        value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(images, labels)
        return float(value), *map(np.asarray, gradients)


def least_loss_and_gradient(spec, images, x_target, y_target, ridge):
    """The loss with the labels that make it least, and its gradient through the solve for them."""
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
    """The largest difference, as a share of the largest expected entry."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())
