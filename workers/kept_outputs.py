"""Arrays on a device that a block's cotangents will need, kept while there is room."""

import threading
import weakref
from typing import Generic

import numpy as np

from kipper.workers.device import Buffer, Device

_SHARE = 0.25  # of a device's memory


class Kept(Generic[Buffer]):
    """An array that is kept as long as this object lives, or until it is forgotten.

    Attributes:
        array: the array; None once it is forgotten.
        bytes: those that it takes.
    """

    def __init__(self, array: Buffer, size: int):
        self.array: Buffer | None = array
        self.bytes = size


class KeptOutputs(Generic[Buffer]):
    """Keeps arrays in up to a quarter of a device's memory; the oldest make room for new ones.

    For several threads.
    """

    def __init__(self, device: Device[Buffer]):
        self._device = device
        self._most = int(device.memory * _SHARE)
        self._lock = threading.Lock()
        self._kept: list[weakref.ref[Kept[Buffer]]] = []  # the oldest first

    def new(self, count: int, dtype: np.dtype) -> Kept[Buffer] | None:
        """An array without values; None if it would have no room even alone."""
        size = count * dtype.itemsize
        with self._lock:
            if size > self._most:
                return None
            while sum(kept.bytes for kept in self._alive()) > self._most - size:
                self._forget_oldest()
            while True:
                try:
                    kept = Kept(self._device.empty(count, dtype), size)
                except MemoryError:
                    if not self._forget_oldest():
                        return None
                else:
                    self._kept.append(weakref.ref(kept))
                    return kept

    def forget_oldest(self) -> bool:
        """Makes room for something else; returns whether there was something to forget."""
        with self._lock:
            return self._forget_oldest()

    def _forget_oldest(self) -> bool:
        for kept in self._alive()[:1]:
            kept.array = None
            return True
        return False

    def _alive(self) -> list[Kept[Buffer]]:
        alive = [kept for each in self._kept if (kept := each()) is not None]
        alive = [kept for kept in alive if kept.array is not None]
        self._kept = [weakref.ref(kept) for kept in alive]
        return alive
