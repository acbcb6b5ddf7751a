"""Convolutional kernels of image pairs over a band of pixel offsets, on a GPU.

The functions are those of `banded_cpu`, with the device that evaluates them. A device is what
allocates, copies and launches; the one of the tests is a CPU. The device code is in `native/cuda/`,
described in docs/gpu.md.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, TypeVar

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

Buffer = TypeVar("Buffer")
# Of cuda_source.py. Each takes its arrays and then its numbers in the order given there.
DeviceFunction = Literal["cross", "cross_vjp", "sum_pairs", "variances", "variances_vjp"]


class Device(Protocol[Buffer]):
    """A GPU, with arrays in its memory."""

    def upload(self, values: np.ndarray) -> Buffer:
        """A copy of an array.

        Raises:
            MemoryError: there is no room for it.
        """
        ...

    def empty(self, count: int, dtype: np.dtype) -> Buffer:
        """An array without values; raises as `upload`."""
        ...

    def download(self, buffer: Buffer, shape: tuple[int, ...]) -> np.ndarray:
        """The values of an array, or of its beginning, after all that was launched."""
        ...

    def launch(
        self,
        function: DeviceFunction,
        plan: KernelPlan,
        images: int,
        counts: Sequence[int],
        buffers: Sequence[Buffer],
    ) -> None:
        """Starts a function.

        Args:
            function: its name.
            plan: the kernel's, or that of variance maps.
            images: of each pair, whose cotangents are wanted.
            counts: numbers of images, and others.
            buffers: arrays that it reads and then those that it writes, all of one dtype.
        """
        ...


def variance_maps(device: Device[Buffer], network: BandedNetwork, images: np.ndarray) -> np.ndarray:
    """(n, h, w, c) -> (n, network.variances_per_image), see `banded_cpu.variance_maps`."""
    plan = variance_plan(network, images.shape[3])
    shape = (len(images), network.variances_per_image)
    maps = device.empty(shape[0] * shape[1], images.dtype)
    if len(images):
        inputs = [device.upload(scaled_pixels(plan, images)), device.upload(images)]
        device.launch("variances", plan, 0, [len(images)], [*inputs, maps])
    return device.download(maps, shape)


def variance_maps_vjp(
    device: Device[Buffer], network: BandedNetwork, images: np.ndarray, cotangent: np.ndarray
) -> np.ndarray:
    """Pulls a cotangent back to images, see `banded_cpu.variance_maps_vjp`."""
    if not len(images):
        return np.zeros_like(images)
    plan = variance_plan(network, images.shape[3])
    of_image = plan.rest.pixel_values + plan.rest.variances
    maps = device.empty(cotangent.size, images.dtype)
    sums = device.empty(len(images) * 2 * of_image, images.dtype)
    inputs = [scaled_pixels(plan, images), images, cotangent]
    device.launch(
        "variances_vjp", plan, 1, [len(images)], [*map(device.upload, inputs), maps, sums]
    )
    of_sides = device.download(sums, (len(images), 2, of_image))[..., : plan.rest.pixel_values]
    return (scaled_pixels(plan, of_sides[:, 0]) + of_sides[:, 1]).reshape(images.shape)


def judged_cross_kernel(
    device: Device[Buffer],
    network: BandedNetwork,
    kind: str,
    x1: np.ndarray,
    v1: np.ndarray,
    x2: np.ndarray,
    v2: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """K (n1, n2), and whether pairs are endangered; see `banded_cpu.judged_cross_kernel`."""
    plan = kernel_plan(network, x1.shape[3], tangent=is_tangent(kind), dtype=x1.dtype.name)
    shape = (len(x1), len(x2))
    results = [device.empty(shape[0] * shape[1], x1.dtype) for _ in range(2)]
    if shape[0] * shape[1]:
        inputs = _uploaded(device, plan, x1, v1, x2, v2)
        weights = device.upload(offset_weights(plan, x1.dtype))
        device.launch("cross", plan, 0, shape, [*inputs, weights, *results])
    kernel, endangered = (device.download(result, shape) for result in results)
    return kernel, endangered > 0


def cross_kernel_vjp(
    device: Device[Buffer],
    network: BandedNetwork,
    kind: str,
    x1: np.ndarray,
    v1: np.ndarray,
    x2: np.ndarray,
    v2: np.ndarray,
    cotangent: np.ndarray,
    *,
    both: bool,
) -> tuple[np.ndarray, ...]:
    """K, endangered pairs, and cotangents; see `banded_cpu.cross_kernel_vjp`.

    What pairs add is kept for as many pairs as there is room for, which changes no bit.

    Raises:
        MemoryError: there is no room for one pair.
    """
    plan = kernel_plan(network, x1.shape[3], tangent=is_tangent(kind), dtype=x1.dtype.name)
    dtype, images = x1.dtype, 2 if both else 1
    of_image = plan.rest.pixel_values + plan.rest.variances
    kernel, endangered = np.empty(cotangent.shape, dtype), np.empty(cotangent.shape, bool)
    totals = [device.upload(np.zeros((len(x), of_image), dtype)) for x in (x1, x2)[:images]]
    weights = device.upload(offset_weights(plan, dtype))
    pairs, sums = _room(device, max(cotangent.size, 1), images * of_image, dtype)
    for rows, columns in _tiles(len(x1), len(x2), pairs):
        part = cotangent[rows, columns]
        inputs = _uploaded(device, plan, x1[rows], v1[rows], x2[columns], v2[columns])
        inputs += [weights, device.upload(part)]
        results = [device.empty(part.size, dtype) for _ in range(2)]
        device.launch("cross_vjp", plan, images, part.shape, [*inputs, *results, sums])
        for side, (total, images_of_side) in enumerate(zip(totals, (rows, columns), strict=False)):
            counts = [*part.shape, side, images_of_side.start]
            device.launch("sum_pairs", plan, images, counts, [sums, total])
        kernel[rows, columns] = device.download(results[0], part.shape)
        endangered[rows, columns] = device.download(results[1], part.shape) > 0
    pulled: list[np.ndarray] = []
    for total, x, v, first in zip(totals, (x1, x2), (v1, v2), (True, False), strict=False):
        summed = device.download(total, (len(x), of_image))
        pixels, deviations = np.split(summed, [plan.rest.pixel_values], axis=1)
        pulled.append((scaled_pixels(plan, pixels) if first else pixels).reshape(x.shape))
        pulled.append(deviation_cotangents(plan, deviations, v, first=first))
    return kernel, endangered, *pulled


def _uploaded(
    device: Device[Buffer],
    plan: KernelPlan,
    x1: np.ndarray,
    v1: np.ndarray,
    x2: np.ndarray,
    v2: np.ndarray,
) -> list[Buffer]:
    """The pixels and factors of both batches."""
    first = scaled_pixels(plan, x1), image_factors(plan, v1, first=True)
    second = x2, image_factors(plan, v2, first=False)
    return [device.upload(array) for array in (*first, *second)]


def _room(device: Device[Buffer], pairs: int, per_pair: int, dtype: np.dtype) -> tuple[int, Buffer]:
    """An array for that many pairs, or for half as many until there is room, and their number."""
    pairs = min(pairs, max(2**31 // per_pair, 1))  # places in an array are int
    while True:
        try:
            return pairs, device.empty(pairs * per_pair, dtype)
        except MemoryError:
            if pairs == 1:
                raise
            pairs = (pairs + 1) // 2


def _tiles(rows: int, columns: int, pairs: int) -> Iterator[tuple[slice, slice]]:
    """Tiles of at most so many pairs: along rows first, so that sums keep their order."""
    if not rows * columns:
        return
    wide = min(columns, pairs)
    high = max(pairs // wide, 1)
    for row in range(0, rows, high):
        for column in range(0, columns, wide):
            yield slice(row, min(row + high, rows)), slice(column, min(column + wide, columns))
