"""Convolutional kernels of image pairs over a band of pixel offsets, on a GPU.

The functions are those of `banded_cpu`, with the device that evaluates them. The device code is in
`native/cuda/`, described in docs/gpu.md.

If memory does not suffice for a block, parts of it are computed one after the other, in the order
of the images, which changes no bit.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Generic

import numpy as np

from kipper.common.architecture import is_tangent
from kipper.workers.bands import BandedNetwork
from kipper.workers.cuda_plan import (
    KernelPlan,
    deviation_cotangents,
    image_factors,
    kernel_plan,
    offset_weights,
    scaled_pixels,
    variance_plan,
)
from kipper.workers.device import Buffer, Device
from kipper.workers.engine import PreparedImages
from kipper.workers.kept_outputs import Kept
from kipper.workers.resident_images import Residency, ResidentImages

_MOST_PLACES = 2**31  # in an array, since they are int
# Of a device's memory, for what the backward passes of a launch need of their forward passes.
_SHARE_OF_OUTPUTS = 1 / 8


def variance_maps(device: Device[Buffer], network: BandedNetwork, images: np.ndarray) -> np.ndarray:
    """(n, h, w, c) -> (n, network.variances_per_image), see `banded_cpu.variance_maps`.

    Raises:
        MemoryError: there is no room for one image.
    """
    plan = variance_plan(network, images.shape[3])
    maps = np.empty((len(images), network.variances_per_image), images.dtype)

    def evaluate(rows: slice, _: slice) -> None:
        part = images[rows]
        result = device.empty(len(part) * maps.shape[1], images.dtype)
        inputs = [_uploaded(device, array) for array in (scaled_pixels(plan, part), part)]
        device.launch("variances", plan, 0, [len(part)], [*inputs, result])
        maps[rows] = device.download(result, (len(part), maps.shape[1]))

    _in_parts(evaluate, slice(0, len(images)), slice(0, 1))
    return maps


def variance_maps_vjp(
    device: Device[Buffer], network: BandedNetwork, images: np.ndarray, cotangent: np.ndarray
) -> np.ndarray:
    """Pulls a cotangent back to images, see `banded_cpu.variance_maps_vjp`; raises as above."""
    plan = variance_plan(network, images.shape[3])
    of_image = plan.rest.pixel_values + plan.rest.variances
    pulled = np.empty_like(images)

    def evaluate(rows: slice, _: slice) -> None:
        part = images[rows]
        maps = device.empty(len(part) * cotangent.shape[1], images.dtype)
        sums = device.empty(len(part) * 2 * of_image, images.dtype)
        arrays = [scaled_pixels(plan, part), part, cotangent[rows]]
        inputs = [_uploaded(device, array) for array in arrays]
        device.launch("variances_vjp", plan, 1, [len(part)], [*inputs, maps, sums])
        of_sides = device.download(sums, (len(part), 2, of_image))[..., : plan.rest.pixel_values]
        pulled[rows] = (scaled_pixels(plan, of_sides[:, 0]) + of_sides[:, 1]).reshape(part.shape)

    _in_parts(evaluate, slice(0, len(images)), slice(0, 1))
    return pulled


@dataclasses.dataclass(frozen=True)
class _Forward(Generic[Buffer]):
    """A forward pass of some pairs, for their backward passes.

    Attributes:
        kept: what it kept.
        places: in `kept`: the place of the first pair, and how far apart those of two first images
            are.
        finish: waits for all that was launched, and takes the results.
    """

    kept: Buffer
    places: tuple[int, int]
    finish: Callable[[], None]


class BandedCuda(Generic[Buffer]):
    """A kernel on a device that keeps images; for several threads."""

    def __init__(self, residency: Residency[Buffer], kind: str):
        self._residency, self._device = residency, residency.device
        self._tangent = is_tangent(kind)
        self._weights: dict[KernelPlan, Buffer] = {}

    def judged_cross_kernel(
        self,
        network: BandedNetwork,
        x1: PreparedImages,
        x2: PreparedImages,
        *,
        kept: Buffer | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """K (n1, n2), and whether pairs are endangered; see `banded_cpu.judged_cross_kernel`.

        An array `kept` of `kept_values` gets what `pulled_back` needs of these pairs.

        Raises:
            MemoryError: there is no room for one pair.
        """
        plan = self._plan(network, x1)
        kernel = np.empty((len(x1.images), len(x2.images)), x1.images.dtype)
        endangered = np.empty(kernel.shape, bool)

        def evaluate(rows: slice, columns: slice) -> None:
            shape, places = kernel[rows, columns].shape, _places(kernel.shape, rows, columns)
            with self._placed(plan, x1.take(rows), x2.take(columns)) as inputs:
                results = self._forward(plan, kernel.dtype, inputs, shape, kept, places)
                kernel[rows, columns], endangered[rows, columns] = results()

        self._in_parts(evaluate, kernel.shape)
        return kernel, endangered

    def linearised_cross_kernel(
        self, network: BandedNetwork, x1: PreparedImages, x2: PreparedImages
    ) -> tuple[np.ndarray, np.ndarray, Kept[Buffer] | None]:
        """`judged_cross_kernel`, and what it kept for `pulled_back`, if there was room for it."""
        values = self._plan(network, x1).kept_values * len(x1.images) * len(x2.images)
        kept = self._residency.kept.new(values, x1.images.dtype)
        array = None if kept is None else kept.array
        kernel, endangered = self.judged_cross_kernel(network, x1, x2, kept=array)
        return kernel, endangered, kept

    def cross_kernel_vjp(
        self,
        network: BandedNetwork,
        x1: PreparedImages,
        x2: PreparedImages,
        cotangent: np.ndarray,
        *,
        both: bool,
    ) -> tuple[np.ndarray, ...]:
        """K, endangered pairs, and cotangents; see `banded_cpu.cross_kernel_vjp`.

        Raises:
            MemoryError: there is no room for one pair.
        """
        device, dtype, plan = self._device, x1.images.dtype, self._plan(network, x1)
        kernel, endangered = np.empty(cotangent.shape, dtype), np.empty(cotangent.shape, bool)

        def forward(rows: slice, columns: slice, inputs: list[Buffer]) -> _Forward[Buffer]:
            shape = kernel[rows, columns].shape
            kept = device.empty(math.prod(shape) * plan.kept_values, dtype)
            places = 0, shape[1]
            results = self._forward(plan, dtype, inputs, shape, kept, places)

            def finish() -> None:
                kernel[rows, columns], endangered[rows, columns] = results()

            return _Forward(kept, places, finish)

        of_pair = plan.kept_values * dtype.itemsize
        most_pairs = max(int(device.memory * _SHARE_OF_OUTPUTS) // of_pair, 1)
        pulled = self._pulled_back(plan, x1, x2, cotangent, forward, most_pairs, both=both)
        return kernel, endangered, *pulled

    def pulled_back(
        self,
        network: BandedNetwork,
        x1: PreparedImages,
        x2: PreparedImages,
        cotangent: np.ndarray,
        kept: Buffer,
        *,
        both: bool,
    ) -> list[np.ndarray]:
        """The cotangents of `cross_kernel_vjp`, with its bits, from what K of the batches kept.

        Raises:
            MemoryError: there is no room for one pair.
        """

        def look_up(rows: slice, columns: slice, _: list[Buffer]) -> _Forward[Buffer]:
            return _Forward(kept, _places(cotangent.shape, rows, columns), self._device.finish)

        plan = self._plan(network, x1)
        return self._pulled_back(plan, x1, x2, cotangent, look_up, _MOST_PLACES, both=both)

    def _forward(
        self,
        plan: KernelPlan,
        dtype: np.dtype,
        inputs: list[Buffer],
        shape: tuple[int, ...],
        kept: Buffer | None,
        places: tuple[int, int],
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """Starts the evaluation of K; returns what waits for it, and for endangered pairs."""
        device = self._device
        weights = self._offset_weights(plan, dtype)
        results = [device.empty(math.prod(shape), dtype) for _ in range(2)]
        device.launch("cross", plan, 0, [*shape, *places], [*inputs, weights, *results, kept])

        def wait() -> tuple[np.ndarray, np.ndarray]:
            kernel, endangered = (device.download(each, shape) for each in results)
            return kernel, endangered > 0

        return wait

    def _pulled_back(
        self,
        plan: KernelPlan,
        x1: PreparedImages,
        x2: PreparedImages,
        cotangent: np.ndarray,
        forward: Callable[[slice, slice, list[Buffer]], _Forward[Buffer]],
        most_pairs: int,
        *,
        both: bool,
    ) -> list[np.ndarray]:
        """The cotangents of images and variances of both sides, from what `forward` gives."""
        device, dtype = self._device, x1.images.dtype
        sides = (x1, x2) if both else (x1,)
        of_image = plan.rest.pixel_values + plan.rest.variances
        totals = [
            _uploaded(device, np.zeros((len(side.images), of_image), dtype)) for side in sides
        ]

        def evaluate(rows: slice, columns: slice) -> None:
            part = np.ascontiguousarray(cotangent[rows, columns], dtype)
            with self._placed(plan, x1.take(rows), x2.take(columns)) as inputs:
                given = _uploaded(device, part)
                sums = device.empty(part.size * len(sides) * of_image, dtype)
                done = forward(rows, columns, inputs)
                arrays = [*inputs, given, done.kept, sums]
                device.launch("cross_vjp", plan, len(sides), [*part.shape, *done.places], arrays)
                for side, (total, images) in enumerate(zip(totals, (rows, columns), strict=False)):
                    counts = [*part.shape, len(sides), side, of_image, images.start]
                    device.launch("sum_pairs", plan, len(sides), counts, [sums, total])
                done.finish()

        most_pairs = min(most_pairs, max(_MOST_PLACES // (len(sides) * of_image), 1))
        self._in_parts(evaluate, cotangent.shape, most_pairs)
        pulled: list[np.ndarray] = []
        for total, side, first in zip(totals, sides, (True, False), strict=False):
            summed = device.download(total, (len(side.images), of_image))
            pixels, deviations = np.split(summed, [plan.rest.pixel_values], axis=1)
            pixels = scaled_pixels(plan, pixels) if first else pixels
            pulled.append(pixels.reshape(side.images.shape))
            pulled.append(deviation_cotangents(plan, deviations, side.features, first=first))
        return pulled

    def _in_parts(
        self,
        evaluate: Callable[[slice, slice], None],
        shape: tuple[int, ...],
        most: int | None = None,
    ) -> None:
        """See the function; what was kept for other blocks makes room for a pair that has none."""

        def evaluate_or_forget(rows: slice, columns: slice) -> None:
            while True:
                try:
                    return evaluate(rows, columns)
                except MemoryError:
                    one = rows.stop - rows.start == columns.stop - columns.start == 1
                    if not one or not self._residency.kept.forget_oldest():
                        raise

        _in_parts(evaluate_or_forget, slice(0, shape[0]), slice(0, shape[1]), most)

    def _plan(self, network: BandedNetwork, images: PreparedImages) -> KernelPlan:
        channels, dtype = images.images.shape[3], images.images.dtype.name
        return kernel_plan(network, channels, tangent=self._tangent, dtype=dtype)

    @contextlib.contextmanager
    def _placed(
        self, plan: KernelPlan, x1: PreparedImages, x2: PreparedImages
    ) -> Iterator[list[Buffer]]:
        """The arrays that a kernel reads for both batches: pixels, factors and places."""
        dtype = x1.images.dtype
        with (
            self._resident(plan, dtype, first=True).placed(x1) as one,
            self._resident(plan, dtype, first=False).placed(x2) as other,
        ):
            arrays = []
            for batch in (one, other):
                arrays += [batch.pixels, batch.factors, _uploaded(self._device, batch.places)]
            yield arrays

    def _offset_weights(self, plan: KernelPlan, dtype: np.dtype) -> Buffer:
        with self._residency.lock:
            if plan not in self._weights:
                self._weights[plan] = _uploaded(self._device, offset_weights(plan, dtype))
                self._device.finish()
            return self._weights[plan]

    def _resident(
        self, plan: KernelPlan, dtype: np.dtype, *, first: bool
    ) -> ResidentImages[Buffer]:
        """The images of first or of second batches, which are prepared in two ways."""

        def prepare(images: PreparedImages) -> tuple[np.ndarray, np.ndarray]:
            pixels = scaled_pixels(plan, images.images) if first else images.images
            return pixels, image_factors(plan, images.features, first=first)

        values = plan.rest.pixel_values, 2 * plan.rest.variances
        key = plan.network, plan.channels, dtype.name, first
        return self._residency.images(key, prepare, values, dtype)


def _places(shape: tuple[int, ...], rows: slice, columns: slice) -> tuple[int, int]:
    """The places of pairs among those of whole batches, as in `_Forward.places`."""
    return rows.start * shape[1] + columns.start, shape[1]


def _uploaded(device: Device[Buffer], values: np.ndarray) -> Buffer:
    buffer = device.empty(values.size, values.dtype)
    device.write(buffer, 0, values)
    return buffer


def _in_parts(
    evaluate: Callable[[slice, slice], None], rows: slice, columns: slice, most: int | None = None
) -> None:
    """Evaluates all pairs, by halves as often as there is too little memory.

    Each image meets the others in their order.

    Args:
        evaluate: raises MemoryError before it changes anything.
        rows: the rows of the first batch.
        columns: the columns of the second.
        most: pairs at once; None for any.

    Raises:
        MemoryError: there is no room for one pair.
    """
    count1, count2 = rows.stop - rows.start, columns.stop - columns.start
    if not count1 * count2:
        return
    if most is None or count1 * count2 <= most:
        try:
            evaluate(rows, columns)
        except MemoryError:
            if count1 * count2 == 1:
                raise
        else:
            return
    if count1 > count2:
        middle = (rows.start + rows.stop) // 2
        parts = [(slice(rows.start, middle), columns), (slice(middle, rows.stop), columns)]
    else:
        middle = (columns.start + columns.stop) // 2
        parts = [(rows, slice(columns.start, middle)), (rows, slice(middle, columns.stop))]
    for part in parts:
        _in_parts(evaluate, *part, most)
