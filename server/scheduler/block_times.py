"""How long blocks take: what deadlines, duplicates and placement are measured by."""

import collections

# Enough for a steady median, few enough to follow a machine that others begin to use.
_REMEMBERED = 31
# Of a worker's slowness: one straggler among them does not make the worker slow.
_REMEMBERED_OF_WORKER = 5


class BlockTimes:
    """Times of recent blocks by shape, and each worker's slowness against them.

    A worker's first block of a shape includes compilation, so it is not remembered.
    """

    def __init__(self) -> None:
        self._recent: dict[str, collections.deque[float]] = {}
        self._median: dict[str, float] = {}
        self._typical = 0.0
        self._relative: dict[str, collections.deque[float]] = {}
        self._slowness: dict[str, float] = {}
        self._seen: dict[str, set[str]] = {}  # worker -> shapes it has computed

    def note(self, worker: str, shape: str, seconds: float) -> None:
        """Takes in one block."""
        seen = self._seen.setdefault(worker, set())
        if shape not in seen:
            seen.add(shape)
            return
        recent = self._recent.setdefault(shape, collections.deque(maxlen=_REMEMBERED))
        recent.append(seconds)
        self._median[shape] = self._typical = median = sorted(recent)[len(recent) // 2]
        relative = self._relative.get(worker)
        if relative is None:
            relative = collections.deque(maxlen=_REMEMBERED_OF_WORKER)
            self._relative[worker] = relative
        relative.append(seconds / median if median > 0 else 1.0)
        self._slowness[worker] = sorted(relative)[(len(relative) - 1) // 2]

    def forget_worker(self, worker: str) -> None:
        """The worker is gone; one that comes by its name is another."""
        self._relative.pop(worker, None)
        self._slowness.pop(worker, None)
        self._seen.pop(worker, None)

    def expected(self, shape: str) -> float | None:
        """Median seconds of a shape's recent blocks; None before there are any."""
        return self._median.get(shape)

    def typical(self) -> float:
        """That of the shape computed last; 0 before there is one."""
        return self._typical

    def is_warm(self, worker: str, shape: str) -> bool:
        """Whether the worker has computed such a block before."""
        return shape in self._seen.get(worker, ())

    def slowness(self, worker: str) -> float:
        """How many times the median the worker's blocks take; 1 before it is known."""
        return self._slowness.get(worker, 1.0)
