"""The pixel pairs that a convolutional kernel needs: the geometry of the banded engines.

The kernel at a layer is a function of two pixels, one of each image. As a function of the first
pixel and the offset d between the two, a 3x3 convolution is a box filter at fixed d, and a ReLU
acts on each entry. Only pooling mixes offsets: a 2x2 pool reads |d| <= 2k + 1 for offsets up to k.
Flatten reads d = 0 only, so offsets outside a band are never read. Derivation:
docs/banded_kernel.md.
"""

import dataclasses
import functools

import numpy as np

from kipper.common.architecture import Architecture, GlobalAvgPool, Stage

Side = tuple[int, int]  # (rows, columns)


@dataclasses.dataclass(frozen=True)
class BandedNetwork:
    """A convolutional ReLU network on images of one size.

    Attributes:
        stages: from the full resolution down.
        global_average: whether the read-out averages over all pixels instead of keeping them
            (Flatten).
        height, width: the size of the images in pixels.
        w2: variance of the weights, before the 1/fan-in factor.
        b2: variance of the biases.
    """

    stages: tuple[Stage, ...]
    global_average: bool
    height: int
    width: int
    w2: float
    b2: float

    @functools.cached_property
    def sizes(self) -> tuple[Side, ...]:
        """The resolution of each stage, and of the read-out's input."""
        sizes = [(self.height, self.width)]
        for stage in self.stages:
            height, width = sizes[-1]
            sizes.append((height // 2, width // 2) if stage.pooled else (height, width))
        return tuple(sizes)

    @functools.cached_property
    def bands(self) -> tuple[Side, ...]:
        """The largest |d| at which a pair kernel is needed, for each stage and the read-out."""
        height, width = self.sizes[-1]
        last = (height - 1, width - 1) if self.global_average else (0, 0)
        return self._bands_up_from(last)

    @functools.cached_property
    def offset_weights(self) -> tuple[np.ndarray, ...]:
        """For each stage, the share of each offset in what the read-out averages.

        (2 rows + 1, 2 columns + 1), as the offsets of `bands`.
        """
        sides = []
        for axis in (0, 1):
            size, band = self.sizes[-1][axis], self.bands[-1][axis]
            weights = [
                np.maximum(size - np.abs(_offsets(band)), 0) / size**2 if band else np.ones(1)
            ]
            for stage, bands in zip(reversed(self.stages), reversed(self.bands[:-1]), strict=True):
                weights.append(
                    _before_pool(weights[-1], bands[axis]) if stage.pooled else weights[-1]
                )
            sides.append(weights[:0:-1])
        return tuple(np.multiply.outer(rows, columns) for rows, columns in zip(*sides, strict=True))

    @functools.cached_property
    def variance_bands(self) -> tuple[Side, ...]:
        """The bands of the kernel of an image with itself, for each stage.

        Only d = 0 of each pre-activation is used, so the band of the last stage is (0, 0).
        """
        stages = self.stages[:-1]
        bands = [(0, 0)]
        for stage, size in zip(reversed(stages), reversed(self.sizes[: len(stages)]), strict=True):
            bands.append(_read_by_pool(bands[-1], size) if stage.pooled else bands[-1])
        return tuple(reversed(bands))

    @functools.cached_property
    def map_sizes(self) -> tuple[Side, ...]:
        """The resolution of each ReLU layer's variance map."""
        pairs = zip(self.stages, self.sizes, strict=False)  # the read-out has no ReLU
        return tuple(size for stage, size in pairs for _ in range(stage.convs))

    @property
    def variances_per_image(self) -> int:
        """The total length of an image's variance maps."""
        return sum(height * width for height, width in self.map_sizes)

    @functools.cached_property
    def stage_outputs(self) -> int:
        """The entries of a pair map in the outputs of all stages but the last, at all offsets.

        The backward pass need not recompute them if they were kept. Counts padding, as in
        native/offset_maps.hpp.
        """
        total = 0
        for (height, width), (rows, columns) in zip(
            self.sizes[1 : len(self.stages)], self.bands[1:], strict=False
        ):
            valid_rows = sum(height - abs(offset) for offset in range(-rows, rows + 1))
            padded = sum(width - abs(offset) + 2 for offset in range(-columns, columns + 1))
            total += valid_rows * padded
        return total

    def _bands_up_from(self, last: Side) -> tuple[Side, ...]:
        bands = [last]
        for stage, size in zip(reversed(self.stages), reversed(self.sizes[:-1]), strict=True):
            bands.append(_read_by_pool(bands[-1], size) if stage.pooled else bands[-1])
        return tuple(reversed(bands))


def _offsets(band: int) -> np.ndarray:
    return np.arange(-band, band + 1)


def _before_pool(weights: np.ndarray, band: int) -> np.ndarray:
    """The weights of offsets in front of a pool: it averages over 2 D - 1, 2 D twice, 2 D + 1."""
    pooled = _offsets(len(weights) // 2)
    apart = np.abs(_offsets(band)[:, None] - 2 * pooled)
    return (np.maximum(2 - apart, 0) / 4) @ weights


def _read_by_pool(band: Side, size: Side) -> Side:
    """The offsets that a 2x2 pool reads for those in `band`, within images of `size`."""
    return min(2 * band[0] + 1, size[0] - 1), min(2 * band[1] + 1, size[1] - 1)


@functools.lru_cache(maxsize=64)
def banded_network(architecture: Architecture, height: int, width: int) -> BandedNetwork | None:
    """`architecture` on images of that size; None if it is no convolutional ReLU network."""
    if not architecture.stages:
        return None
    return BandedNetwork(
        stages=architecture.stages,
        global_average=GlobalAvgPool() in architecture.layers,
        height=height,
        width=width,
        w2=architecture.w_std**2,
        b2=architecture.b_std**2,
    )
