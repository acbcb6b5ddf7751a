"""Architectures as immutable values that every kernel engine can read.

Names and shapes follow the released code of "Dataset Distillation with Infinitely Wide
Convolutional Networks" (arXiv 2107.13034) and, for Myrtle, of "Dataset Meta-Learning from Kernel
Ridge-Regression" (arXiv 2011.00050). This module knows nothing of any library that evaluates them.
"""

import dataclasses
import re

from kipper.common.errors import UserError

W_STD = 2**0.5
B_STD = 0.1


@dataclasses.dataclass(frozen=True)
class Conv:
    """A 3x3 convolution, stride 1, zero padding to the same size."""


@dataclasses.dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclasses.dataclass(frozen=True)
class AvgPool:
    """2x2 average pooling, stride 2; an odd last row or column is dropped."""


@dataclasses.dataclass(frozen=True)
class Flatten:
    """All pixels and channels into one vector."""


@dataclasses.dataclass(frozen=True)
class GlobalAvgPool:
    """The mean over all pixels, for each channel."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """A fully connected layer; the last layer of every architecture."""


Layer = Conv | Relu | AvgPool | Flatten | GlobalAvgPool | Dense


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A feed-forward network of infinite width, in the NTK parameterisation.

    Attributes:
        name: what `architecture_named` was asked for.
        layers: from the image to the read-out, which is always a `Dense`.
        w_std: standard deviation of the weights, before the 1/sqrt(fan-in) factor.
        b_std: standard deviation of the biases.
    """

    name: str
    layers: tuple[Layer, ...]
    w_std: float = W_STD
    b_std: float = B_STD

    @property
    def num_pools(self) -> int:
        return sum(isinstance(layer, AvgPool) for layer in self.layers)

    @property
    def couples_pixels(self) -> bool:
        """Whether one kernel element needs every pixel pair of its two images (any pooling)."""
        return any(isinstance(layer, AvgPool | GlobalAvgPool) for layer in self.layers)


@dataclasses.dataclass(frozen=True)
class KernelSpec:
    """All that an engine needs to know to evaluate k(x, x').

    Attributes:
        architecture: the network.
        kind: `ntk` (all layers train) or `nngp` (the read-out trains).
        dtype: `float32` or `float64`, of the arithmetic and of the result.
    """

    architecture: Architecture
    kind: str
    dtype: str


def is_tangent(kind: str) -> bool:
    """Whether a kernel of that kind is the tangent kernel; ValueError for an unknown one."""
    if kind not in ("ntk", "nngp"):
        raise ValueError(f"kind {kind!r} is neither 'ntk' nor 'nngp'")
    return kind == "ntk"


def _repeated(layer: Layer, depth: int) -> list[Layer]:
    """`layer` and a ReLU, `depth` times."""
    pair: list[Layer] = [layer, Relu()]
    return pair * depth


def _convolutional(pooled_stages: tuple[int, ...], readout: Layer) -> tuple[Layer, ...]:
    """Stages of conv + ReLU; a pool follows each stage, except the last before a GlobalAvgPool."""
    layers: list[Layer] = []
    for stage, convs in enumerate(pooled_stages):
        layers += _repeated(Conv(), convs)
        if stage + 1 < len(pooled_stages) or isinstance(readout, Flatten):
            layers.append(AvgPool())
    return (*layers, readout, Dense())


_FIXED: dict[str, tuple[Layer, ...]] = {
    "convnet": _convolutional((2, 1, 1), Flatten()),
    "convnet3": _convolutional((1, 1, 1), Flatten()),
    "myrtle5": _convolutional((2, 1, 1), GlobalAvgPool()),
    "myrtle7": _convolutional((2, 2, 2), GlobalAvgPool()),
    "myrtle10": _convolutional((3, 3, 3), GlobalAvgPool()),
}

_KNOWN = (
    "fc1, fc2, … (fcK), convnet, convnet3, myrtle5, myrtle7, myrtle10, conv_vec1, … (conv_vecK)"
)


def architecture_named(name: str) -> Architecture:
    """The architecture of that name.

    `fcK`: Flatten, then K hidden layers with ReLU. `convnet`: conv + ReLU, then three times
    [conv, ReLU, pool]; `convnet3`: without the prepended pair. `myrtleK`: K - 1 convolutions in
    three stages with pools between them and a global average pool. `conv_vecK`: K convolutions
    without pooling. All but `fcK` and Myrtle end in Flatten and Dense.

    Raises:
        UserError: no such architecture.
    """
    if name in _FIXED:
        return Architecture(name, _FIXED[name])
    match = re.fullmatch(r"(fc|conv_vec)([1-9][0-9]?)", name)
    if match is None:
        raise UserError(f"Unknown architecture {name!r}; known are {_KNOWN}.")
    depth = int(match[2])
    if match[1] == "fc":
        return Architecture(name, (Flatten(), *_repeated(Dense(), depth), Dense()))
    return Architecture(name, (*_repeated(Conv(), depth), Flatten(), Dense()))


def check_image_side(architecture: Architecture, height: int, width: int) -> None:
    """Refuses images that the pools of `architecture` would shrink to nothing.

    Raises:
        UserError: a side is smaller than 2 to the number of pools.
    """
    smallest = 2**architecture.num_pools
    if min(height, width) < smallest:
        raise UserError(
            f"Images of {height}x{width} pixels are too small for {architecture.name!r}, "
            f"whose {architecture.num_pools} pools need at least {smallest}x{smallest}."
        )
