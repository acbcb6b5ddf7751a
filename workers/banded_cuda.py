"""Convolutional kernels of image pairs over a band of pixel offsets, on a GPU.

The functions are those of `banded_cpu`, with the device that evaluates them. The device code is in
`native/cuda/`, described in docs/gpu.md.

Memory that does not suffice for a block suffices for parts of it. Parts are computed in the order
of the images, so that it changes no bit.
"""

import contextlib
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
from kipper.workers.resident_images import Residency, ResidentImages

_MOST_PLACES = 2**31  # in an array, since they are int


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


class BandedCuda(Generic[Buffer]):
    """A kernel on a device that keeps images; for several threads."""

    def __init__(self, residency: Residency[Buffer], kind: str):
        self._residency, self._device = residency, residency.device
        self._tangent = is_tangent(kind)
        self._weights: dict[KernelPlan, Buffer] = {}

    def judged_cross_kernel(
        self, network: BandedNetwork, x1: PreparedImages, x2: PreparedImages
    ) -> tuple[np.ndarray, np.ndarray]:
        """K (n1, n2), and whether pairs are endangered; see `banded_cpu.judged_cross_kernel`.

        Raises:
            MemoryError: there is no room for one pair.
        """
        device, dtype = self._device, x1.images.dtype
        plan = self._plan(network, x1)
        kernel = np.empty((len(x1.images), len(x2.images)), dtype)
        endangered = np.empty(kernel.shape, bool)

        def evaluate(rows: slice, columns: slice) -> None:
            shape = kernel[rows, columns].shape
            with self._placed(plan, x1.take(rows), x2.take(columns)) as inputs:
                results = [device.empty(shape[0] * shape[1], dtype) for _ in range(2)]
                device.launch("cross", plan, 0, shape, [*inputs, *results])
                kernel[rows, columns] = device.download(results[0], shape)
                endangered[rows, columns] = device.download(results[1], shape) > 0

        _in_parts(evaluate, slice(0, len(x1.images)), slice(0, len(x2.images)))
        return kernel, endangered

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
        device, dtype = self._device, x1.images.dtype
        plan = self._plan(network, x1)
        sides = (x1, x2) if both else (x1,)
        of_image = plan.rest.pixel_values + plan.rest.variances
        kernel, endangered = np.empty(cotangent.shape, dtype), np.empty(cotangent.shape, bool)
        totals = [
            _uploaded(device, np.zeros((len(side.images), of_image), dtype)) for side in sides
        ]

        def evaluate(rows: slice, columns: slice) -> None:
            part = np.ascontiguousarray(cotangent[rows, columns], dtype)
            with self._placed(plan, x1.take(rows), x2.take(columns)) as inputs:
                inputs.append(_uploaded(device, part))
                results = [device.empty(part.size, dtype) for _ in range(2)]
                sums = device.empty(part.size * len(sides) * of_image, dtype)
                arrays = [*inputs, *results, sums]
                device.launch("cross_vjp", plan, len(sides), part.shape, arrays)
                for side, (total, images) in enumerate(zip(totals, (rows, columns), strict=False)):
                    counts = [*part.shape, len(sides), side, of_image, images.start]
                    device.launch("sum_pairs", plan, len(sides), counts, [sums, total])
                kernel[rows, columns] = device.download(results[0], part.shape)
                endangered[rows, columns] = device.download(results[1], part.shape) > 0

        most_pairs = max(_MOST_PLACES // (len(sides) * of_image), 1)
        every = slice(0, len(x1.images)), slice(0, len(x2.images))
        _in_parts(evaluate, *every, most_pairs)
        pulled: list[np.ndarray] = []
        for total, side, first in zip(totals, sides, (True, False), strict=False):
            summed = device.download(total, (len(side.images), of_image))
            pixels, deviations = np.split(summed, [plan.rest.pixel_values], axis=1)
            pixels = scaled_pixels(plan, pixels) if first else pixels
            pulled.append(pixels.reshape(side.images.shape))
            pulled.append(deviation_cotangents(plan, deviations, side.features, first=first))
        return kernel, endangered, *pulled

    def _plan(self, network: BandedNetwork, images: PreparedImages) -> KernelPlan:
        channels, dtype = images.images.shape[3], images.images.dtype.name
        return kernel_plan(network, channels, tangent=self._tangent, dtype=dtype)

    @contextlib.contextmanager
    def _placed(
        self, plan: KernelPlan, x1: PreparedImages, x2: PreparedImages
    ) -> Iterator[list[Buffer]]:
        """What a kernel reads of both batches: pixels, factors and places; weights of offsets."""
        dtype = x1.images.dtype
        with (
            self._resident(plan, dtype, first=True).placed(x1) as one,
            self._resident(plan, dtype, first=False).placed(x2) as other,
        ):
            inputs = []
            for batch in (one, other):
                inputs += [batch.pixels, batch.factors, _uploaded(self._device, batch.places)]
            yield [*inputs, self._offset_weights(plan, dtype)]

    def _offset_weights(self, plan: KernelPlan, dtype: np.dtype) -> Buffer:
        with self._residency.lock:
            if plan not in self._weights:
                self._weights[plan] = _uploaded(self._device, offset_weights(plan, dtype))
                self._device.finish_writes()
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
        rows: of the first batch.
        columns: of the second.
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
