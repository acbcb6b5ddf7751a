"""Finite networks whose infinite-width limits are the kernels."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from kipper.common.architecture import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Erf,
    Flatten,
    Gelu,
    GlobalAvgPool,
    Layer,
    LeakyRelu,
    Relu,
)
from kipper.common.errors import UserError


def finite_network(architecture: Architecture, width: int, num_classes: int) -> nn.Sequential:
    """The network of `architecture` with `width` channels or units in each hidden layer.

    Standard parameterisation, as in section 5 of arXiv 2107.13034: weights are drawn from
    N(0, w_std^2 / fan-in), biases from N(0, b_std^2).

    Returns:
        A flax module from images (n, h, w, c) to outputs (n, num_classes).

    Raises:
        UserError: the architecture is a user-defined network, whose layers are unknown.
    """
    if not architecture.layers:
        raise UserError(
            f"--architecture={architecture.title} is a user-defined kernel; transfer trains "
            "architectures that have a name, such as convnet."
        )
    *hidden, _ = architecture.layers
    layers = [_flax_layer(layer, architecture, width) for layer in hidden]
    return nn.Sequential([*layers, nn.Dense(num_classes, **_initializers(architecture))])


def _initializers(architecture: Architecture) -> dict[str, Any]:
    return {
        "kernel_init": nn.initializers.variance_scaling(
            architecture.w_std**2, mode="fan_in", distribution="normal"
        ),
        "bias_init": nn.initializers.normal(architecture.b_std),
    }


def _flax_layer(
    layer: Layer, architecture: Architecture, width: int
) -> Callable[[jax.Array], jax.Array]:
    match layer:
        case Conv():
            return nn.Conv(width, (3, 3), padding="SAME", **_initializers(architecture))
        case Dense():
            return nn.Dense(width, **_initializers(architecture))
        case Relu():
            return nn.relu
        case LeakyRelu(slope):
            return lambda x: nn.leaky_relu(x, slope)
        case Erf():
            return jax.scipy.special.erf
        case Gelu():
            return lambda x: nn.gelu(x, approximate=False)
        case AvgPool():
            return lambda x: nn.avg_pool(x, (2, 2), strides=(2, 2))
        case Flatten():
            return lambda x: x.reshape(len(x), -1)
        case GlobalAvgPool():
            return lambda x: x.mean(axis=(1, 2))
