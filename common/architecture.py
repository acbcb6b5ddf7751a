"""Architectures as immutable values that every kernel engine can read.

Names and shapes follow the released code of "Dataset Distillation with Infinitely Wide
Convolutional Networks" (arXiv 2107.13034) and, for Myrtle, of "Dataset Meta-Learning from Kernel
Ridge-Regression" (arXiv 2011.00050). This module depends on no library that evaluates them.
"""

import dataclasses
import difflib
import functools
import re
from typing import Literal

from kipper.common.errors import UserError
from kipper.common.network_file import NetworkFile, is_network_file, named_here, network_file

W_STD = 2**0.5
B_STD = 0.1


@dataclasses.dataclass(frozen=True)
class Conv:
    """A 3x3 convolution, stride 1, zero padding to the same size."""


@dataclasses.dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclasses.dataclass(frozen=True)
class LeakyRelu:
    """max(x, 0) + slope min(x, 0); the slope is that of Dataset Condensation (arXiv 2006.05929)."""

    slope: float = 0.01


@dataclasses.dataclass(frozen=True)
class Erf:
    """The error function."""


@dataclasses.dataclass(frozen=True)
class Gelu:
    """x times the normal distribution function of x."""


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


Activation = Relu | LeakyRelu | Erf | Gelu
Family = Literal["fully connected ReLU", "convolutional ReLU"]
Layer = Conv | Activation | AvgPool | Flatten | GlobalAvgPool | Dense


@dataclasses.dataclass(frozen=True)
class Stage:
    """Layers at one resolution: `convs` times [Conv, Relu], then an AvgPool if `pooled`."""

    convs: int
    pooled: bool


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A feed-forward network of infinite width, in the NTK parameterisation.

    Attributes:
        name: the argument of `architecture_named`.
        layers: from the image to the read-out, which is always a `Dense`; none for a `file`.
        w_std: standard deviation of the weights, before the 1/sqrt(fan-in) factor.
        b_std: standard deviation of the biases.
        file: what makes a user-defined network, with its deviations.
    """

    name: str
    layers: tuple[Layer, ...]
    w_std: float = W_STD
    b_std: float = B_STD
    file: NetworkFile | None = None

    @property
    def num_pools(self) -> int:
        return sum(isinstance(layer, AvgPool) for layer in self.layers)

    @property
    def couples_pixels(self) -> bool:
        """Whether one kernel element needs every pixel pair of its images (pooling, or a file)."""
        pooled = any(isinstance(layer, AvgPool | GlobalAvgPool) for layer in self.layers)
        return pooled or self.file is not None

    @functools.cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of a convolutional ReLU network, full resolution first; () for others."""
        if self.layers[-2:] not in ((Flatten(), Dense()), (GlobalAvgPool(), Dense())):
            return ()
        stages: list[Stage] = []
        convs, body = 0, self.layers[:-2]
        while body:
            if body[:2] == (Conv(), Relu()):
                convs, body = convs + 1, body[2:]
            elif body[0] == AvgPool() and convs:
                stages.append(Stage(convs, pooled=True))
                convs, body = 0, body[1:]
            else:
                return ()
        return (*stages, Stage(convs, pooled=False)) if convs else tuple(stages)

    @functools.cached_property
    def hidden_layers(self) -> int:
        """The number of hidden layers of a fully connected ReLU network; 0 for others."""
        hidden = self.layers.count(Relu())
        matches = self.layers == (Flatten(), *(Dense(), Relu()) * hidden, Dense())
        return hidden if matches else 0

    @property
    def family(self) -> Family | None:
        """The family of networks that it belongs to, if that family has its own engines."""
        if self.stages:
            return "convolutional ReLU"
        return "fully connected ReLU" if self.hidden_layers else None

    @property
    def title(self) -> str:
        """The name without the hash of a file."""
        return self.name.partition("#")[0]


@dataclasses.dataclass(frozen=True)
class KernelSpec:
    """A kernel that an engine can evaluate.

    Attributes:
        architecture: the network.
        kind: `ntk` (all layers train) or `nngp` (only the read-out trains).
        dtype: the dtype of arithmetic and results, `float32` or `float64`.
    """

    architecture: Architecture
    kind: str
    dtype: str

    @property
    def in_float64(self) -> "KernelSpec":
        """The same kernel in float64 arithmetic."""
        return dataclasses.replace(self, dtype="float64")


def is_tangent(kind: str) -> bool:
    """Whether a kernel of that kind is the tangent kernel; ValueError for an unknown one."""
    if kind not in ("ntk", "nngp"):
        raise ValueError(f"kind {kind!r} is neither 'ntk' nor 'nngp'")
    return kind == "ntk"


def _repeated(layer: Layer, depth: int) -> list[Layer]:
    """`layer` and a ReLU, `depth` times."""
    pair: list[Layer] = [layer, Relu()]
    return pair * depth


def _convolutional(stages: tuple[int, ...], readout: Layer, last_pool: bool) -> tuple[Layer, ...]:
    """Stages of conv + ReLU with pools between them, and after the last if `last_pool`."""
    layers: list[Layer] = []
    for stage, convs in enumerate(stages):
        layers += _repeated(Conv(), convs)
        if last_pool or stage + 1 < len(stages):
            layers.append(AvgPool())
    return (*layers, readout, Dense())


_MYRTLE = {"5": (2, 1, 1), "7": (2, 2, 2), "10": (3, 3, 3)}
_READOUTS: dict[str, Layer] = {"vec": Flatten(), "gap": GlobalAvgPool()}
_ACTIVATIONS: dict[str, Activation] = {"leaky": LeakyRelu(), "erf": Erf(), "gelu": Gelu()}
# Depths are 1 to 99, without leading zeros. Not `\d`, which matches digits of other scripts.
_NAME = re.compile(
    r"(?:fc(?P<dense>[1-9][0-9]?)"
    r"|conv_(?P<readout>vec|gap)(?P<convs>[1-9][0-9]?)"
    r"|convnet(?P<pools>[1-9]?)(?P<gap>_gap)?"
    r"|myrtle(?P<myrtle>5|7|10))"
    r"(?:_(?P<activation>leaky|erf|gelu))?"
)
_KNOWN = (
    "fcK, convnet, convnetK, convnet_gap, convnetK_gap, myrtle5, myrtle7, myrtle10, conv_vecK and "
    "conv_gapK, each also with _leaky, _erf or _gelu, and FILE.py:FUNCTION"
)
# Usual names, which shells complete.
USUAL_NAMES = (
    *("fc1", "fc2", "fc3", "convnet", "convnet3", "convnet_gap", "conv_vec2", "conv_gap2"),
    *("myrtle5", "myrtle7", "myrtle10"),
)


def architecture_named(name: str) -> Architecture:
    """The architecture of that name, or the network that FILE.py:FUNCTION names.

    | name | layers |
    | --- | --- |
    | `fcK` | Flatten, K hidden layers |
    | `convnetK` | K times [conv, ReLU, pool], Flatten |
    | `convnet` | conv and ReLU in front of `convnet3`: the ConvNet of arXiv 2107.13034 |
    | `convnet_gap`, `convnetK_gap` | the same with a global average pool for Flatten |
    | `myrtle5`, `7`, `10` | 5, 7 or 10 weighted layers and two pools; global average pool |
    | `conv_vecK`, `conv_gapK` | K convolutions, no pool; Flatten, or a global average pool |

    `convnetK` is the ConvNet of Dataset Condensation (arXiv 2006.05929), without its norm, whose
    kernel is unknown. Usual values are K = 3 for images of 32x32 pixels, 4 for 64x64 (Tiny
    ImageNet) and 5 for 128x128 (arXiv 2203.11932).

    All end in a Dense read-out. The suffixes `_leaky`, `_erf` and `_gelu` replace every ReLU.

    Raises:
        UserError: no such architecture, or no such file.
    """
    if is_network_file(name):
        file = network_file(name)
        return Architecture(file.name, (), file=file)
    match = _NAME.fullmatch(name)
    if match is None:
        close = difflib.get_close_matches(name, USUAL_NAMES, 1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise UserError(
            f"Unknown architecture {name!r}; known are {_KNOWN}; K is from 1 to 99, and of "
            f"convnetK from 1 to 9.{meant}"
        )
    layers = _rectified_layers(match)
    if match["activation"]:
        activation = _ACTIVATIONS[match["activation"]]
        layers = tuple(activation if layer == Relu() else layer for layer in layers)
    return Architecture(name, layers)


def architecture_asked_for(name: str) -> Architecture:
    """The architecture that another process asks for by `Architecture.name`.

    Raises:
        UserError: no such architecture; or its file was not named in this process, see
            `network_file.named_here`.
    """
    if is_network_file(name):
        file = named_here(name)
        return Architecture(file.name, (), file=file)
    return architecture_named(name)


def _rectified_layers(match: re.Match[str]) -> tuple[Layer, ...]:
    """The layers of a matched name, with ReLUs for nonlinearities."""
    if match["dense"]:
        return (Flatten(), *_repeated(Dense(), int(match["dense"])), Dense())
    if match["convs"]:
        return _convolutional((int(match["convs"]),), _READOUTS[match["readout"]], last_pool=False)
    if match["myrtle"]:
        return _convolutional(_MYRTLE[match["myrtle"]], GlobalAvgPool(), last_pool=False)
    stages = (1,) * int(match["pools"]) if match["pools"] else (2, 1, 1)
    readout = GlobalAvgPool() if match["gap"] else Flatten()
    return _convolutional(stages, readout, last_pool=True)


def check_image_side(architecture: Architecture, height: int, width: int) -> None:
    """Refuses images that the pools of `architecture` would shrink to nothing.

    Raises:
        UserError: a side is smaller than 2 to the number of pools.
    """
    smallest = 2**architecture.num_pools
    if min(height, width) < smallest:
        raise UserError(
            f"Images of {height}x{width} pixels are too small for {architecture.title!r}, "
            f"whose {architecture.num_pools} pools need at least {smallest}x{smallest}."
        )
