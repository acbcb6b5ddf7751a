"""What a GPU's program must know of a network: the numbers of `native/cuda/stage.hpp`.

The mapping of a kernel to warps is described in docs/gpu.md.
"""

import dataclasses
import functools
import math

import numpy as np

from kipper.workers.bands import BandedNetwork, Side
from kipper.workers.nearness import judged_step

WARP = 32
LARGEST_SIDE = 4 * WARP  # a lane holds up to four columns


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """The fields of `Stage` in native/cuda/stage.hpp, which describes them."""

    convs: int
    pooled: int
    first: int
    last: int
    height: int
    width: int
    band_rows: int
    band_columns: int
    out_height: int
    out_width: int
    out_band_rows: int
    out_band_columns: int
    channels: int
    first_map: int
    input: int
    output: int
    columns: int
    segment: int
    judged_rows: int
    only_offset: int
    lost: int
    total: int
    nearest: int
    first_weight: int
    bias: float
    inner_scale: float
    top_scale: float


@dataclasses.dataclass(frozen=True)
class NetworkPlan:
    """The fields of `Plan` in native/cuda/stage.hpp, which describes them."""

    pixel_values: int
    variances: int
    workspace: int
    outputs: int
    sums: int
    offsets: int
    exchange: int
    judged: int
    factors: int
    cotangents: int
    verdict: int
    readout_scale: float
    bias: float


@dataclasses.dataclass(frozen=True, eq=False)  # each is made once
class KernelPlan:
    """A network's stages and its other numbers.

    Attributes:
        network: the network.
        tangent: whether the kernel is the NTK; else the NNGP kernel.
        channels: the channels of an image.
        stages: as the program knows them.
        rest: the numbers that do not belong to a stage.
    """

    network: BandedNetwork
    tangent: bool
    channels: int
    stages: tuple[StagePlan, ...]
    rest: NetworkPlan

    @property
    def kept_values(self) -> int:
        """What a backward pass needs from a forward pass: `Kept` in native/cuda/cross.hpp."""
        return self.rest.outputs + 1


@functools.cache
def kernel_plan(network: BandedNetwork, channels: int, *, tangent: bool, dtype: str) -> KernelPlan:
    """The plan of a kernel of images (h, w, channels), of `network`'s height and width.

    Pairs are judged in float32 only, because its rounding may endanger them.

    Raises:
        ValueError: a side is longer than LARGEST_SIDE.
    """
    return _plan(
        network,
        network.bands,
        channels,
        tangent=tangent,
        judged=dtype == "float32",
        variances=False,
    )


@functools.cache
def variance_plan(network: BandedNetwork, channels: int) -> KernelPlan:
    """The plan of the variance maps of such images; see `kernel_plan`."""
    bands = (*network.variance_bands, (0, 0))  # nothing is read behind the last ReLU
    return _plan(network, bands, channels, tangent=False, judged=False, variances=True)


def _plan(
    network: BandedNetwork,
    bands: tuple[Side, ...],
    channels: int,
    *,
    tangent: bool,
    judged: bool,
    variances: bool,
) -> KernelPlan:
    if max(network.height, network.width) > LARGEST_SIDE:
        raise ValueError(
            f"Images of {network.height} x {network.width} pixels are too large for banded_cuda, "
            f"whose sides are at most {LARGEST_SIDE}."
        )
    places = _Places(network, bands, tangent=tangent, variances=variances)
    stages = []
    first_map, offsets = 0, 0
    for index, stage in enumerate(network.stages):
        (height, width), (out_height, out_width) = network.sizes[index : index + 2]
        band, out_band = bands[index : index + 2]
        last = index == len(network.stages) - 1
        columns = _power_of_two(math.ceil(width / WARP))
        stages.append(
            StagePlan(
                convs=stage.convs,
                pooled=int(stage.pooled),
                first=int(index == 0),
                last=int(last),
                height=height,
                width=width,
                band_rows=band[0],
                band_columns=band[1],
                out_height=out_height,
                out_width=out_width,
                out_band_rows=out_band[0],
                out_band_columns=out_band[1],
                channels=channels,
                first_map=first_map,
                input=places.maps[max(index - 1, 0)],
                output=places.maps[index],
                columns=columns,
                segment=_power_of_two(math.ceil(width / columns)),
                judged_rows=judged_step(network, index) if judged else 0,
                only_offset=int(bands[0] == (0, 0)),
                lost=places.lost + offsets,
                total=places.total + offsets,
                nearest=places.nearest + index,
                first_weight=offsets,
                bias=network.b2,
                inner_scale=_scale(network),
                top_scale=(1 if last else _scale(network) * 2) / 2 / (16 if stage.pooled else 1),
            )
        )
        first_map += stage.convs * height * width
        offsets += _offsets(band)
    height, width = network.sizes[-1]
    return KernelPlan(
        network,
        tangent,
        channels,
        tuple(stages),
        NetworkPlan(
            pixel_values=network.height * network.width * channels,
            variances=network.variances_per_image,
            workspace=places.end,
            outputs=places.outputs,
            sums=places.sums,
            offsets=_offsets(bands[len(stages) - 1]),
            exchange=places.exchange,
            judged=offsets if judged else 0,
            factors=places.factors,
            cotangents=places.cotangents,
            verdict=places.verdict,
            readout_scale=network.w2 / (height * width) ** (2 if network.global_average else 1),
            bias=network.b2,
        ),
    )


def offset_weights(plan: KernelPlan, dtype: np.dtype) -> np.ndarray:
    """The weights of all judged offsets, (judged,)."""
    weights = np.concatenate([stage.ravel() for stage in plan.network.offset_weights])
    return weights[: plan.rest.judged].astype(dtype)


class _Places:
    """The parts of a block's workspace, one behind the other."""

    def __init__(
        self, network: BandedNetwork, bands: tuple[Side, ...], *, tangent: bool, variances: bool
    ):
        self.end = 0
        last = len(network.stages) - 1
        # The last stage has no maps.
        self.maps = [
            self._take(_map_entries(size, band) * (2 if tangent else 1) if index < last else 0)
            for index, (size, band) in enumerate(zip(network.sizes[1:], bands[1:], strict=True))
        ]
        self.outputs = self.end
        self.sums = self._take(_offsets(bands[last]))
        self.exchange = self._take(
            max(
                2 * (stage.convs + 1) * (2 * band[1] + 1) * size[1]
                for stage, band, size in zip(network.stages, bands, network.sizes, strict=False)
            )
        )
        self.lost, self.total = (self._take(sum(map(_offsets, bands[:-1]))) for _ in range(2))
        self.nearest = self._take(last + 1)
        self.verdict = self._take(1)
        # Two numbers of a variance are read at once, and so their places are even.
        self._take(self.end % 2)
        # Only variance maps have their factors here.
        self.factors = self._take(4 * network.variances_per_image if variances else 0)
        self.cotangents = self._take(network.variances_per_image if variances else 0)

    def _take(self, count: int) -> int:
        start, self.end = self.end, self.end + count
        return start


def _offsets(bands: Side) -> int:
    return (2 * bands[0] + 1) * (2 * bands[1] + 1)


def image_factors(plan: KernelPlan, variances: np.ndarray, *, first: bool) -> np.ndarray:
    """(n, variances) -> (n, variances, 2): reciprocal deviations, 0 for 0, and deviations.

    The deviations of `first` images carry the factor of sqrt(1 - c^2) in each ReLU's output.
    """
    deviations = np.sqrt(variances)
    inverses = np.divide(1, deviations, out=np.zeros_like(deviations), where=deviations != 0)
    if first:
        deviations = deviations * _sine_scales(plan).astype(variances.dtype)
    return np.stack([inverses, deviations], axis=-1)


def scaled_pixels(plan: KernelPlan, images: np.ndarray) -> np.ndarray:
    """Images (n, h, w, c) with the factor of the first convolution's inner products."""
    return images * images.dtype.type(plan.network.w2 / 9 / plan.channels)


def deviation_cotangents(
    plan: KernelPlan, sums: np.ndarray, variances: np.ndarray, *, first: bool
) -> np.ndarray:
    """The cotangents of variances (n, variances), from those of deviations.

    Args:
        plan: the kernel.
        sums: (n, variances): of deviations. Those of `first` images lack the factor that their
            deviations carry.
        variances: (n, variances) of the images.
        first: see above.
    """
    inverses = image_factors(plan, variances, first=False)[..., 0]
    if first:
        sums = sums * _sine_scales(plan).astype(variances.dtype)
    return sums * inverses / 2


def _sine_scales(plan: KernelPlan) -> np.ndarray:
    """The factor of sqrt(1 - c^2) in the output of each ReLU, for every variance of an image."""
    scales = []
    for stage in plan.stages:
        levels = [stage.inner_scale] * (stage.convs - 1) + [stage.top_scale]
        scales.append(np.repeat(levels, stage.height * stage.width) / math.pi)
    return np.concatenate(scales)


def _scale(network: BandedNetwork) -> float:
    """The factor of a ReLU's outputs that a convolution reads, without a pool in between."""
    return network.w2 / 9 / 2


def _map_entries(size: Side, bands: Side) -> int:
    """The pairs of pixels at all offsets of the bands, for images of that size."""
    counts = [
        sum(side - abs(offset) for offset in range(-band, band + 1))
        for side, band in zip(size, bands, strict=True)
    ]
    return counts[0] * counts[1]


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
