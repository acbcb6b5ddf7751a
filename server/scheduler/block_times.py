"""How long blocks take: the basis of deadlines, duplicates and placement."""

import dataclasses

# Enough for steady quantiles, few enough to notice when others start to use the machine. Of this
# many sorted times, the one at _NINTH_DECILE bounds nine in ten.
_REMEMBERED, _NINTH_DECILE = 31, 28
# Upper limit of the ninth decile, as a multiple of the median.
_MAX_SPREAD = 2.0
# Few, so that slowness follows changes; a median, so that one straggler has no effect.
_REMEMBERED_PER_WORKER = 5


@dataclasses.dataclass(slots=True)
class Pace:
    """How fast one worker computes.

    Attributes:
        shapes: shapes of the blocks that it has computed.
        relative: times of its recent blocks, divided by the median of their shape.
        slowness: the median of `relative`; 1 before it is known.
    """

    shapes: set[str] = dataclasses.field(default_factory=set)
    relative: list[float] = dataclasses.field(default_factory=list)
    slowness: float = 1.0


@dataclasses.dataclass
class BlockTimes:
    """Times of recent blocks by shape, over all workers.

    A worker's first block of a shape includes compilation, so it counts only until another block
    of that shape is known.

    Attributes:
        recent: seconds of recent blocks, without first ones.
        first: seconds of workers' first blocks, for shapes that have no others.
        expected: median seconds.
        slow: seconds that nine in ten recent blocks stay below, at most twice the median.
        typical: the median of the shape computed last; 0 before there is one.
    """

    recent: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    first: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    expected: dict[str, float] = dataclasses.field(default_factory=dict)
    slow: dict[str, float] = dataclasses.field(default_factory=dict)
    typical: float = 0.0

    def add(self, pace: Pace, shape: str, seconds: float) -> None:
        """Records the time of one block, and updates the pace of the worker that computed it."""
        if shape not in pace.shapes:
            pace.shapes.add(shape)
            if shape not in self.recent:
                self._add(self.first, shape, seconds)
            return
        self._add(self.recent, shape, seconds)
        median = self.expected[shape]
        pace.relative.append(seconds / median if median > 0 else 1.0)
        del pace.relative[:-_REMEMBERED_PER_WORKER]
        pace.slowness = sorted(pace.relative)[(len(pace.relative) - 1) // 2]

    def _add(self, times: dict[str, list[float]], shape: str, seconds: float) -> None:
        recent = times.setdefault(shape, [])
        recent.append(seconds)
        del recent[:-_REMEMBERED]
        ordered = sorted(recent)
        self.expected[shape] = self.typical = median = ordered[len(ordered) // 2]
        ninth_decile = ordered[len(ordered) * _NINTH_DECILE // _REMEMBERED]
        # Stragglers end together, long after the others: for a while they may be the majority.
        self.slow[shape] = min(ninth_decile, _MAX_SPREAD * median)
