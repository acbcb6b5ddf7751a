"""KIP: one gradient step on support images, and labels, as a function of state and step number.

Source: arXiv 2011.00050, algorithm 1; Adam jointly on images and labels as in its released code.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from kipper.common.precision import enable_x64
from kipper.server import krr
from kipper.server.distributed_kernel import DistributedKernel


class KipState(NamedTuple):
    """All that a step starts from.

    Attributes:
        images: (n, h, w, c) in the kernel's dtype, preprocessed.
        labels: (n, C) float64.
        optimiser: optax state of Adam over what is learned.
    """

    images: np.ndarray
    labels: np.ndarray
    optimiser: Any


def initial_state(images: np.ndarray, labels: np.ndarray, learn_labels: bool) -> KipState:
    """The state before the first step; labels enter the optimiser only if they are learned."""
    with enable_x64():
        optimiser = _adam(0.0).init(_parameters(images, labels, learn_labels))
    return KipState(images, labels, jax.tree_util.tree_map(np.asarray, optimiser))


def loss_at(
    kernel: DistributedKernel,
    state: KipState,
    key: str,
    rows: np.ndarray,
    targets: np.ndarray,
    ridge: float,
) -> krr.Regression:
    """Loss, predictions and cotangents on `rows` (t,) of a resident row set.

    `targets` are their labels (t, C). Raises NumericalError as `krr.regress` does.
    """
    kernel.set_support(state.images)
    k_ss, k_ts = kernel.linearise(key, rows)
    return krr.regress(k_ss, k_ts, state.labels, targets, ridge)


def update(
    kernel: DistributedKernel,
    state: KipState,
    cotangents: krr.Cotangents,
    learning_rate: float,
    learn_labels: bool,
) -> KipState:
    """The state after one Adam step down the gradient that `cotangents` pull back to."""
    gradient = kernel.gradient(cotangents.k_ss, cotangents.k_ts).astype(state.images.dtype)
    parameters = _parameters(state.images, state.labels, learn_labels)
    gradients = _parameters(gradient, cotangents.labels, learn_labels)
    with enable_x64():
        stepped, optimiser = _adam_step(parameters, gradients, state.optimiser, learning_rate)
    stepped, optimiser = jax.tree_util.tree_map(np.asarray, (stepped, optimiser))
    return KipState(stepped["images"], stepped.get("labels", state.labels), optimiser)


def _parameters(images: np.ndarray, labels: np.ndarray, learn_labels: bool) -> dict[str, Any]:
    return {"images": images, "labels": labels} if learn_labels else {"images": images}


def _adam(learning_rate: float) -> optax.GradientTransformation:
    return optax.adam(learning_rate)


@functools.partial(jax.jit, static_argnums=3)
def _adam_step(
    parameters: dict[str, Any], gradients: dict[str, Any], optimiser: Any, learning_rate: float
) -> tuple[dict[str, Any], Any]:
    updates, optimiser = _adam(learning_rate).update(gradients, optimiser, parameters)
    return optax.apply_updates(parameters, updates), optimiser
