"""The largest learning rate at which gradient descent on a new network is stable."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# As in the released code of arXiv 2107.13034.
IMAGES = 50
# Natural images resemble each other, so one eigenvalue dominates and a few steps suffice.
_TOLERANCE, _MOST_STEPS = 1e-4, 100

# Parameters and images (n, h, w, c) to outputs (n, C), as `apply` of a flax network.
Apply = Callable[..., Any]


def largest_stable_rate(apply: Apply, parameters: Any, images: np.ndarray) -> float:
    """2 n C over the largest eigenvalue of the empirical NTK of n images with C outputs.

    Above that rate, gradient descent on half the mean squared error over all n C entries diverges
    in the linearised network. As in the released code, the NTK is that of the sum of all outputs
    over sqrt(C), whose mean over networks is that of each single output; and momentum, which would
    allow a larger rate, is ignored.

    Args:
        apply: parameters and images (n, h, w, c) to outputs (n, C).
        parameters: the parameters of the network as drawn.
        images: preprocessed, float32.
    """
    num_outputs = jax.eval_shape(apply, parameters, images).shape[1]
    eigenvalue = _largest_eigenvalue(
        lambda vector: _ntk_times(apply, parameters, images, vector), len(images)
    )
    return 2 * len(images) * num_outputs / eigenvalue


@functools.partial(jax.jit, static_argnames="apply")
def _ntk_times(apply: Apply, parameters: Any, images: jax.Array, vector: jax.Array) -> jax.Array:
    """J J^T v from one backward and one forward pass, without forming the Jacobian J."""

    def summed(parameters: Any) -> jax.Array:
        outputs = apply(parameters, images)
        return outputs.sum(axis=1) / outputs.shape[1] ** 0.5

    _, pull = jax.vjp(summed, parameters)
    (direction,) = pull(vector)
    return jax.jvp(summed, (parameters,), (direction,))[1]


def _largest_eigenvalue(times: Callable[[jax.Array], jax.Array], size: int) -> float:
    """The largest eigenvalue of a positive semi-definite matrix, by power iteration.

    The loop is in Python: inside XLA's own loops, convolutions run on one thread of a CPU.
    """
    vector = jnp.full(size, size**-0.5, jnp.float32)
    eigenvalue = 0.0
    for _ in range(_MOST_STEPS):
        product = times(vector)
        before, eigenvalue = eigenvalue, float(vector @ product)
        if eigenvalue - before <= _TOLERANCE * eigenvalue:
            break
        vector = product / jnp.linalg.norm(product)
    return eigenvalue
