"""Images on a device, kept there between blocks.

A worker receives each row once, and the device gets it once too: the data that a kernel reads of an
image stay in one of the places of two arrays, until other images need the place.
"""

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Generic

import numpy as np

from kipper.workers.device import Buffer, Device
from kipper.workers.engine import PreparedImages
from kipper.workers.kept_outputs import KeptOutputs

_SHARE = 0.5  # of a device's memory
# Places that an array has at first.
_FEWEST = 256
# An image that was not used by so many blocks makes room for others before arrays grow.
_RECENT_BLOCKS = 1000

# From images to their pixels (n, …) and factors (n, …), as a kernel reads them.
Prepare = Callable[[PreparedImages], tuple[np.ndarray, np.ndarray]]
_Key = tuple[Hashable, int]


class Residency(Generic[Buffer]):
    """What a device keeps for all its kernels: images, in up to half of its memory, and `kept`.

    The set that was not used for longest makes room for a set that grows. It is then copied again
    when a block needs it.
    """

    def __init__(self, device: Device[Buffer]):
        self.device = device
        self.kept = KeptOutputs(device)
        self.lock = threading.RLock()
        self._sets: collections.OrderedDict[Hashable, ResidentImages[Buffer]] = (
            collections.OrderedDict()
        )

    def images(
        self, key: Hashable, prepare: Prepare, values: tuple[int, int], dtype: np.dtype
    ) -> "ResidentImages[Buffer]":
        """The set of that key, made if there is none; see `ResidentImages`."""
        with self.lock:
            if key not in self._sets:
                self._sets[key] = ResidentImages(self, prepare, values, dtype)
            self._sets.move_to_end(key)
            return self._sets[key]

    def make_room(self, asking: "ResidentImages[Buffer]", size: int) -> int:
        """The bytes, of `size` or fewer, that a set may take: half of those that others leave."""
        most = int(self.device.memory * _SHARE)
        others = [each for each in self._sets.values() if each is not asking]
        for each in others:
            if size <= (most - sum(other.bytes for other in others)) // 2:
                break
            if not each.in_use:
                each.forget()
        return min(size, (most - sum(other.bytes for other in others)) // 2)


@dataclasses.dataclass(frozen=True)
class Placed(Generic[Buffer]):
    """A batch on the device: arrays of pixels and factors, and the images' places (n,) in them."""

    pixels: Buffer
    factors: Buffer
    places: np.ndarray


class ResidentImages(Generic[Buffer]):
    """Places for images of one shape, prepared in one way; for several threads.

    The arrays grow as images come. Where they cannot, the images that were not used for longest
    make room; but those of a block that is being computed stay.

    Args:
        residency: the residency of the device that holds the arrays.
        prepare: makes what is kept of images.
        values: how many values an image's pixels and its factors have.
        dtype: the dtype of both.
    """

    def __init__(
        self,
        residency: Residency[Buffer],
        prepare: Prepare,
        values: tuple[int, int],
        dtype: np.dtype,
    ):
        self._residency = residency
        self._prepare = prepare
        self._values, self._dtype = values, dtype
        self._of_image = sum(values) * dtype.itemsize
        self._blocks = 0
        self.forget()

    def forget(self) -> None:
        """Gives the arrays back; blocks that are being computed hold those they began with."""
        self._arrays: tuple[Buffer, Buffer] | None = None
        self._count = 0
        self._free: list[int] = []
        # Places, and the last block that used them; those used last come last.
        self._places: collections.OrderedDict[_Key, tuple[int, int]] = collections.OrderedDict()
        self._users: collections.Counter[_Key] = collections.Counter()

    @property
    def in_use(self) -> bool:
        """Whether a block that is being computed reads the arrays."""
        return bool(self._users)

    @property
    def bytes(self) -> int:
        """The bytes of the arrays."""
        return self._count * self._of_image

    @contextlib.contextmanager
    def placed(self, images: PreparedImages) -> Iterator[Placed[Buffer]]:
        """The images, which keep their places within the context.

        Raises:
            MemoryError: there is no room for all of them at once.
        """
        numbers = np.arange(len(images.images)) if images.numbers is None else images.numbers
        keys = [(images.source, int(number)) for number in numbers]
        with self._residency.lock:
            placed = self._place(keys, images)
            users = self._users
            users.update(keys)
        try:
            yield placed
        finally:
            with self._residency.lock:
                users.subtract(keys)
                for key in set(keys):
                    if not users[key]:
                        del users[key]

    def _place(self, keys: list[_Key], images: PreparedImages) -> Placed[Buffer]:
        self._blocks += 1
        indices = {key: index for index, key in enumerate(keys)}
        missing = indices.keys() - self._places.keys()
        if len(missing) > len(self._free):
            self._make_room(indices.keys(), len(missing))
            missing = indices.keys() - self._places.keys()
        if len(missing) > len(self._free):
            raise MemoryError("A device has too few places for the images of a block.")
        assert self._arrays is not None
        if missing:
            self._write(images.take(np.array(sorted(indices[key] for key in missing))))
        for key in indices:
            self._places[key] = self._places[key][0], self._blocks
            self._places.move_to_end(key)
        return Placed(*self._arrays, np.array([self._places[key][0] for key in keys], np.int32))

    def _make_room(self, wanted: Collection[_Key], missing: int) -> None:
        """Frees places for what is missing: those of old images, more places, or any."""
        self._free_places(wanted, missing, before=self._blocks - _RECENT_BLOCKS)
        if missing > len(self._free):
            self._grow(max(2 * self._count, len(wanted), _FEWEST), least=len(wanted))
        if self._places:
            self._free_places(wanted, missing, before=self._blocks)

    def _free_places(self, wanted: Collection[_Key], missing: int, *, before: int) -> None:
        for key, (place, block) in list(self._places.items()):
            if missing <= len(self._free) or block >= before:
                return
            if key not in wanted and key not in self._users:
                del self._places[key]
                self._free.append(place)

    def _grow(self, count: int, least: int) -> None:
        """More places, all of them empty, for `count` images or as many as there is memory for."""
        count = self._residency.make_room(self, count * self._of_image) // self._of_image
        if count <= self._count:
            return
        self.forget()
        while count >= least:
            try:
                pixels, factors = (
                    self._residency.device.empty(count * values, self._dtype)
                    for values in self._values
                )
            except MemoryError:
                count //= 2
            else:
                self._arrays, self._count = (pixels, factors), count
                self._free = list(range(count))[::-1]
                return

    def _write(self, images: PreparedImages) -> None:
        """Copies images to free places, those that follow each other at once."""
        assert self._arrays is not None
        assert images.numbers is not None  # `take` numbers them
        device = self._residency.device
        prepared = self._prepare(images)
        places = np.array([self._free.pop() for _ in images.numbers])
        order = np.argsort(places)
        for run in np.split(order, np.flatnonzero(np.diff(places[order]) > 1) + 1):
            for buffer, array, values in zip(self._arrays, prepared, self._values, strict=True):
                device.write(buffer, int(places[run[0]]) * values, array[run])
        device.finish()
        for number, place in zip(images.numbers, places, strict=True):
            self._places[images.source, int(number)] = int(place), self._blocks
