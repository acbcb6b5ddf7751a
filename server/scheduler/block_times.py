"""How long blocks take: what deadlines, duplicates and placement are measured by."""

import collections

# Enough for steady quantiles, few enough to follow a machine that others begin to use.
_REMEMBERED = 31
_NINE_TENTHS = 28  # of that
_WIDEST = 2.0  # of that, against the median
# Of a worker's slowness: one straggler among them does not make the worker slow.
_REMEMBERED_OF_WORKER = 5


class BlockTimes:
    """Times of recent blocks by shape, and each worker's slowness against them.

    A worker's first block of a shape includes compilation, so it counts only while there are no
    others.
    """

    def __init__(self) -> None:
        self._recent: dict[str, collections.deque[float]] = {}
        self._first: dict[str, collections.deque[float]] = {}
        self._median: dict[str, float] = {}
        self._slow: dict[str, float] = {}
        self._typical = 0.0
        self._relative: dict[str, collections.deque[float]] = {}
        self._slowness: dict[str, float] = {}
        self._seen: dict[str, set[str]] = {}  # worker -> shapes it has computed

    def note(self, worker: str, shape: str, seconds: float) -> None:
        """Takes in one block."""
        seen = self._seen.setdefault(worker, set())
        if shape not in seen:
            seen.add(shape)
            if shape not in self._recent:
                self._remember(self._first, shape, seconds)
            return
        median = self._remember(self._recent, shape, seconds)
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

    def slow(self, shape: str) -> float | None:
        """What nine in ten of a shape's recent blocks stay below, at most twice the median.

        None before there are any.
        """
        return self._slow.get(shape)

    def typical(self) -> float:
        """The median of the shape computed last; 0 before there is one."""
        return self._typical

    def is_warm(self, worker: str, shape: str) -> bool:
        """Whether the worker has computed such a block before."""
        return shape in self._seen.get(worker, ())

    def slowness(self, worker: str) -> float:
        """How many times the median the worker's blocks take; 1 before it is known."""
        return self._slowness.get(worker, 1.0)

    def _remember(
        self, times: dict[str, collections.deque[float]], shape: str, seconds: float
    ) -> float:
        """The median with one more."""
        recent = times.get(shape)
        if recent is None:
            recent = times[shape] = collections.deque(maxlen=_REMEMBERED)
        recent.append(seconds)
        ordered = sorted(recent)
        self._median[shape] = self._typical = median = ordered[len(ordered) // 2]
        nine_tenths = ordered[len(ordered) * _NINE_TENTHS // _REMEMBERED]
        # Stragglers end together, long after the others: for a while they may be the majority.
        self._slow[shape] = min(nine_tenths, _WIDEST * median)
        return median
