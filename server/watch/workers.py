"""What the live page shows of a worker."""

import collections
import dataclasses
from typing import Any

from kipper.server.scheduler.ledger import WorkerRecord
from kipper.server.watch.timeline import Lane

# Period over which a worker's pace is measured.
_PACE_SECONDS = 30.0


@dataclasses.dataclass(slots=True)
class WatchedWorker:
    """A worker, present or gone. Times are seconds of the scheduler's clock.

    Attributes:
        joined: when it joined last; None before.
        left, reason: when it left and why; None while it is present.
        deaths: how often it was lost.
        blocks, pairs: number of its blocks, and of their kernel entries, that were used.
        last_answer: when its last answer came.
        bytes_sent, bytes_received: images, kernels and cotangents sent to it; received from it.
        lane: its part of the timeline.
        paces: times in the last `_PACE_SECONDS`, with its pairs then.
    """

    name: str
    host: str = ""
    engine: str = ""
    device: str = ""
    joined: float | None = None
    left: float | None = None
    reason: str | None = None
    deaths: int = 0
    blocks: int = 0
    pairs: int = 0
    last_answer: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    lane: Lane = dataclasses.field(default_factory=Lane)
    paces: "collections.deque[tuple[float, int]]" = dataclasses.field(
        default_factory=collections.deque
    )

    def measure_pace(self, now: float) -> None:
        """Records its pairs for its pace; to be called regularly."""
        self.paces.append((now, self.pairs))
        while len(self.paces) > 2 and self.paces[1][0] <= now - _PACE_SECONDS:
            self.paces.popleft()

    @property
    def pairs_per_second(self) -> float:
        """Its pace over the last `_PACE_SECONDS`."""
        if self.left is not None or len(self.paces) < 2:
            return 0.0
        (start, before), (stop, after) = self.paces[0], self.paces[-1]
        return round((after - before) / (stop - start), 1) if stop > start else 0.0

    def to_json(
        self, record: WorkerRecord | None, to_unix: float, has_ended: bool = False
    ) -> dict[str, Any]:
        """Its entry in /api/workers.

        Args:
            record: the scheduler's record, if it is present.
            to_unix: difference between Unix time and the scheduler's clock.
            has_ended: whether the run has.
        """

        def unix(seconds: float | None) -> float | None:
            return None if seconds is None else round(seconds + to_unix, 3)

        return {
            "name": self.name,
            "host": self.host,
            "engine": self.engine,
            "device": self.device,
            "state": self._state(record, has_ended),
            "blocks": self.blocks,
            "pairs": self.pairs,
            "pairs_per_second": self.pairs_per_second,
            "last_answer": unix(self.last_answer),
            "joined": unix(self.joined),
            "left": unix(self.left),
            "deaths": self.deaths,
            "reason": self.reason,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
        }

    def _state(self, record: WorkerRecord | None, has_ended: bool) -> str:
        if self.left is not None:
            return "lost"
        if has_ended:
            return "ended"
        if record is not None and record.draining:
            return "leaving"
        return "working" if record is not None and record.out else "idle"
