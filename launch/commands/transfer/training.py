"""Training a finite network on a distilled set, by the protocol of arXiv 2107.13034."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kipper.common.errors import NumericalError
from kipper.launch.commands.transfer.learning_rate import Apply

MOMENTUM = 0.9
# Channels times images in one forward pass: a few hundred MB at 32x32 pixels.
CHANNELS_AT_ONCE = 16384


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a network is trained.

    Attributes:
        loss: `mse`, half the mean squared error to the labels over all entries; or
            `cross_entropy`, of the softmax against each label's largest entry, mean over images.
        steps: the number of steps of gradient descent with momentum; the learning rate falls to
            zero as a half cosine.
        l2: l2 / 2 times the squared norm of all parameters is added to the loss.
        batch_size: maximum number of distilled images in a step.
    """

    loss: str
    steps: int
    l2: float
    batch_size: int


class TrainedNetwork(NamedTuple):
    """The parameters of a network after `step` steps."""

    step: int
    parameters: Any


def train(
    apply: Apply,
    parameters: Any,
    images: np.ndarray,
    labels: np.ndarray,
    protocol: Protocol,
    rate: float,
    seed: int,
) -> Iterator[TrainedNetwork]:
    """Trains, step by step; the first one is the network as it was drawn.

    Args:
        apply: parameters and images to outputs (n, C).
        parameters: to start from.
        images: distilled (n, h, w, c), preprocessed.
        labels: the labels of the distilled images, (n, C).
        rate: the initial learning rate.
        seed: the seed of the batches.

    Raises:
        NumericalError: the loss is no longer finite.
    """
    inputs, targets = jnp.float32(images), jnp.float32(labels)
    state = optimiser(rate, protocol).init(parameters)
    yield TrainedNetwork(0, parameters)
    for step in range(protocol.steps):
        rows = batch_rows(len(inputs), protocol.batch_size, step, seed)
        batch = (inputs, targets) if rows is None else (inputs[rows], targets[rows])
        parameters, state, loss = descend(apply, protocol, rate, parameters, state, *batch)
        # This also waits for the step, so that Ctrl-C takes effect within one.
        if not np.isfinite(float(loss)):
            raise NumericalError(
                f"Training diverged at step {step} of seed {seed} with a learning rate of "
                f"{rate:.3g}; give a smaller --max_lr_factor."
            )
        yield TrainedNetwork(step + 1, parameters)


# No lax.scan over steps: in XLA's loops convolutions are thirty times slower on CPUs.
@functools.partial(jax.jit, static_argnames=("apply", "protocol"))
def descend(
    apply: Apply,
    protocol: Protocol,
    rate: jax.Array,
    parameters: Any,
    state: Any,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[Any, Any, jax.Array]:
    """One step; returns parameters, the optimiser's state, and the loss before it without L2."""

    def batch_loss(parameters: Any) -> jax.Array:
        return LOSSES[protocol.loss](apply(parameters, images), labels)

    loss, gradient = jax.value_and_grad(batch_loss)(parameters)
    updates, state = optimiser(rate, protocol).update(gradient, state, parameters)
    return optax.apply_updates(parameters, updates), state, loss


def optimiser(rate: Any, protocol: Protocol) -> optax.GradientTransformation:
    """v <- 0.9 v + gradient + l2 θ, then θ <- θ - rate (1 + cos(π step / steps)) / 2 v."""
    schedule = optax.cosine_decay_schedule(rate, protocol.steps)
    return optax.chain(
        optax.add_decayed_weights(protocol.l2), optax.sgd(schedule, momentum=MOMENTUM)
    )


def loss_of(outputs: np.ndarray, labels: np.ndarray, protocol: Protocol) -> float:
    """The loss without L2 of outputs (n, C) against labels (n, C); infinite if it overflows."""
    # JAX, because numpy would warn of the overflow.
    return float(LOSSES[protocol.loss](jnp.float32(outputs), jnp.float32(labels)))


def _mse(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    return 0.5 * jnp.mean((outputs - labels) ** 2)


def _cross_entropy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    classes = jnp.argmax(labels, axis=1)
    return optax.softmax_cross_entropy_with_integer_labels(outputs, classes).mean()


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "mse": _mse,
    "cross_entropy": _cross_entropy,
}


def batch_rows(size: int, batch_size: int, step: int, seed: int) -> np.ndarray | None:
    """The rows of a step's batch out of `size` images; None for all of them.

    An epoch takes each image once, except those that do not fill a batch; each is shuffled anew.
    """
    if size <= batch_size:
        return None
    epoch, batch = divmod(step, size // batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(size)
    return order[batch * batch_size : (batch + 1) * batch_size]


def predict(apply: Apply, parameters: Any, images: np.ndarray, width: int) -> np.ndarray:
    """Outputs (n, C) of a network of that width, for a bounded number of images at a time."""
    size = min(len(images), max(1, CHANNELS_AT_ONCE // width))
    outputs = []
    for start in range(0, len(images), size):
        block = images[start : start + size]
        padded = np.concatenate([block, images[: size - len(block)]])  # one shape, one compilation
        outputs.append(np.asarray(_forward(apply, parameters, padded))[: len(block)])
    return np.concatenate(outputs)


@functools.partial(jax.jit, static_argnames="apply")
def _forward(apply: Apply, parameters: Any, images: jax.Array) -> jax.Array:
    return apply(parameters, images)
