"""A sequence of blocks, queued ahead of their use and returned in order."""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from kipper.server.scheduler.events import BlockSpec

# Limits on blocks whose results have not been taken: a multiple of the workers' capacity, at least
# a minimum, and bytes. Enough for the scheduler to choose from, few enough to bound memory.
_CAPACITIES_AHEAD, MIN_AHEAD = 4, 256
MAX_BYTES_AHEAD = 512 * 2**20

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")


class Batch(Generic[_Request, _Result]):
    """Iterates over results in the order of the requests; the first blocks are queued at once.

    Args:
        requests: drawn as results are taken.
        queue: hands requests to the scheduler; returns their specs.
        results: by block; each is removed when it is returned.
        work: makes some progress and returns.
        capacity: how many blocks the workers can have at once.
        taken: called with each block whose result is returned.
    """

    def __init__(
        self,
        requests: Iterable[_Request],
        queue: Callable[[list[_Request]], list[BlockSpec]],
        results: dict[int, _Result],
        work: Callable[[], None],
        capacity: Callable[[], int],
        taken: Callable[[int], None] = lambda _block: None,
    ):
        self._source = iter(requests)
        self._queue = queue
        self._results = results
        self._work = work
        self._capacity = capacity
        self._taken = taken
        self._ended = False
        self._ahead: collections.deque[BlockSpec] = collections.deque()
        self._bytes_ahead = 0
        self._draw()

    @property
    def outstanding(self) -> list[int]:
        """Blocks whose results have not been taken."""
        return [spec.block for spec in self._ahead]

    def __iter__(self) -> Iterator[_Result]:
        return self

    def __next__(self) -> _Result:
        self._draw()
        if not self._ahead:
            raise StopIteration
        first = self._ahead[0]
        while first.block not in self._results:
            self._work()
        self._ahead.popleft()
        self._bytes_ahead -= first.bytes
        self._taken(first.block)
        return self._results.pop(first.block)

    def _draw(self) -> None:
        """Queues requests up to the limits; in chunks, because queuing determines their bytes."""
        most = max(MIN_AHEAD, _CAPACITIES_AHEAD * self._capacity())
        while not self._ended and len(self._ahead) < most:
            if self._ahead and self._bytes_ahead >= MAX_BYTES_AHEAD:
                return
            chunk: list[_Request] = []
            for request in self._source:
                chunk.append(request)
                if len(chunk) == self._chunk(most):
                    break
            else:
                self._ended = True
            if chunk:
                specs = self._queue(chunk)
                self._ahead.extend(specs)
                self._bytes_ahead += sum(spec.bytes for spec in specs)

    def _chunk(self, most: int) -> int:
        """How many requests to queue before bytes are checked again."""
        if not self._ahead:
            return 1
        room = MAX_BYTES_AHEAD - self._bytes_ahead
        fitting = room * len(self._ahead) // max(1, self._bytes_ahead)
        return max(1, min(most - len(self._ahead), fitting))
