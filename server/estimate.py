"""Kernel pairs, checkpoints and memory of a run, counted before it starts.

Pure arithmetic on settings and sizes, by the rules that the run itself follows. The kernel pairs
are those that its result.json will record, if nothing is resumed.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

from kipper.server.tiling import Tiling, triangle

if TYPE_CHECKING:
    from kipper.server.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a run.

    Attributes:
        name: the name of the computation.
        times: how often it is done.
        pairs: kernel pairs, each time.
        vjp_pairs: pairs of the gradient, each time.
        kernel: index of the kernel among those of the run.
    """

    name: str
    times: int
    pairs: int
    vjp_pairs: int = 0
    kernel: int = 0


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Numbers of images and outputs, the shape of an image, and the kernel's bytes a number."""

    support: int
    target: int
    test: int
    validation: int
    outputs: int
    image_shape: tuple[int, ...]
    itemsize: int

    @classmethod
    def of(cls, experiment: "Experiment", kernel_dtype: str) -> "Sizes":
        return cls(
            len(experiment.support),
            len(experiment.target.labels),
            len(experiment.test.labels),
            len(experiment.validation.labels),
            experiment.num_outputs,
            experiment.support.shape[1:],
            8 if kernel_dtype == "float64" else 4,
        )

    @property
    def pixels(self) -> int:
        """Numbers in an image."""
        return math.prod(self.image_shape)


def support_pairs(num_support: int, tiling: Tiling) -> int:
    """Pairs of the blocks on and above the diagonal of K_ss."""
    blocks = triangle(num_support, tiling.support)
    return sum((r1 - r0) * (c1 - c0) for (r0, r1), (c0, c1) in blocks)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of arrays, without those of Python and its libraries.

    Attributes:
        data: images as files hold them, and preprocessed.
        matrices: kernels, cotangents and gradients on the coordinator.
        rows: images that each worker holds in the end, if workers have processes of their own.
        features: what each worker's engine computes once for each image, and keeps.
        block: what one block takes, and what a worker keeps for the gradient of others.
    """

    data: int
    matrices: int
    rows: int
    features: int
    block: int


def memory_of(sizes: Sizes, gradient_targets: int, features: int, block: int) -> Memory:
    """Memory by sizes.

    Args:
        sizes: the sizes of the data of the run.
        gradient_targets: target images of a gradient step, 0 without gradient.
        features: numbers that engines compute once for an image, those of all kernels together.
        block: see `Memory`; only the engine knows it.
    """
    n = sizes.support
    images = sizes.target + sizes.test + sizes.validation
    # K_ts, its float64 copy and its cotangent; the factor and the cotangent of K_ss beside it.
    at_once = gradient_targets or 2 * n
    matrices = 8 * (3 * at_once * n + 5 * n * n + 4 * n * sizes.pixels)
    raw = sizes.pixels * 4 * images
    rows = sizes.pixels * sizes.itemsize * (sizes.target + sizes.test + 2 * n)
    return Memory(2 * raw, matrices, rows, sizes.itemsize * features * images, block)
