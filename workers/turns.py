"""Decides which threads may compute: a few at once, or one alone."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

_Result = TypeVar("_Result")


class Turns:
    """Lets up to `most` threads compute at once; `most` may change while a thread is alone."""

    def __init__(self, most: int = 1):
        self.most = most
        self._running = 0
        self._alone = 0  # that wait to be alone or are
        self._changed = threading.Condition()

    def run(self, compute: Callable[[], _Result]) -> _Result:
        """The result of `compute`, computed alone if there was too little memory beside others.

        Raises:
            MemoryError: there is too little for it alone.
        """
        try:
            with self._turn():
                return compute()
        except MemoryError:
            if self.most == 1:
                raise
        with self.alone():
            return compute()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no thread computes; no other thread computes while the block runs."""
        with self._changed:
            self._alone += 1
            self._changed.wait_for(lambda: not self._running)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._alone -= 1
                self._running -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and self._running < self.most)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
