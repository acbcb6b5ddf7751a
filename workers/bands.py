"""Which pixel pairs a convolutional kernel really needs: the geometry behind the banded engines.

A kernel at a layer is a function of two pixels, one of each image. Written by the first pixel
and the offset d between the two, a 3x3 convolution is a box filter at fixed d and a ReLU is
elementwise; only pooling mixes offsets: a 2x2 pool of |D| <= k reads |d| <= 2k + 1. Flatten reads
d = 0 alone, so offsets outside a band are never read. Derivation: docs/banded_kernel.md.
"""

import dataclasses
import functools

from kipper.common.architecture import Architecture, GlobalAvgPool, Stage

Side = tuple[int, int]  # (rows, columns)


@dataclasses.dataclass(frozen=True)
class BandedNetwork:
    """A convolutional network on images of one size, as the banded engines see it.

    Attributes:
        stages: from the full resolution down.
        global_average: whether the read-out averages over all pixels, or keeps them (Flatten).
        height, width: of the images.
        w2: the square of the weights' standard deviation.
        b2: the square of the biases'.
    """

    stages: tuple[Stage, ...]
    global_average: bool
    height: int
    width: int
    w2: float
    b2: float

    @functools.cached_property
    def sizes(self) -> tuple[Side, ...]:
        """The resolution of each stage, and last that of what the read-out sees."""
        sizes = [(self.height, self.width)]
        for stage in self.stages:
            height, width = sizes[-1]
            sizes.append((height // 2, width // 2) if stage.pooled else (height, width))
        return tuple(sizes)

    @functools.cached_property
    def bands(self) -> tuple[Side, ...]:
        """The largest |d| needed of a pair kernel at each stage, and last at the read-out."""
        height, width = self.sizes[-1]
        last = (height - 1, width - 1) if self.global_average else (0, 0)
        return self._bands_up_from(last)

    @functools.cached_property
    def variance_bands(self) -> tuple[Side, ...]:
        """The same for an image with itself, of which only d = 0 of each pre-activation is used.

        Nothing is read below the last ReLU, so the band of the last stage is (0, 0).
        """
        stages = self.stages[:-1]
        bands = [(0, 0)]
        for stage, size in zip(reversed(stages), reversed(self.sizes[: len(stages)]), strict=True):
            bands.append(_read_by_pool(bands[-1], size) if stage.pooled else bands[-1])
        return tuple(reversed(bands))

    @functools.cached_property
    def map_sizes(self) -> tuple[Side, ...]:
        """The resolution of each ReLU layer's variance map, first layer first."""
        pairs = zip(self.stages, self.sizes, strict=False)  # the read-out has no ReLU
        return tuple(size for stage, size in pairs for _ in range(stage.convs))

    @property
    def variances_per_image(self) -> int:
        """Length of all variance maps of an image, one behind the other."""
        return sum(height * width for height, width in self.map_sizes)

    @functools.cached_property
    def handed_on(self) -> int:
        """Entries of a pair map, padded as native/offset_maps.hpp does, that stages hand on.

        Of each stage but the last, for all offsets together: what a backward pass need not make
        again if it was kept.
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


def _read_by_pool(band: Side, size: Side) -> Side:
    """Offsets that a 2x2 pool reads to give those of `band`, within images of `size`."""
    return min(2 * band[0] + 1, size[0] - 1), min(2 * band[1] + 1, size[1] - 1)


def banded_network(architecture: Architecture, height: int, width: int) -> BandedNetwork | None:
    """`architecture` on images of that size, or None if the banded engines cannot evaluate it."""
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
