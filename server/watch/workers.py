"""What the live page shows of each worker, including those that are gone."""

import collections
import dataclasses
from typing import Any

from kipper.server.scheduler.ledger import WorkerRecord
from kipper.server.watch.following import Work
from kipper.server.watch.timeline import Lane

# Limit on workers that are gone, because each new worker may have a new name.
_MAX_LOST = 200
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

    def to_json(self, record: WorkerRecord | None, to_unix: float) -> dict[str, Any]:
        """Its entry in /api/workers.

        Args:
            record: the scheduler's record, if it is present.
            to_unix: difference between Unix time and the scheduler's clock.
        """

        def unix(seconds: float | None) -> float | None:
            return None if seconds is None else round(seconds + to_unix, 3)

        return {
            "name": self.name,
            "host": self.host,
            "engine": self.engine,
            "device": self.device,
            "state": self._state(record),
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

    def _state(self, record: WorkerRecord | None) -> str:
        if self.left is not None:
            return "lost"
        if record is not None and record.draining:
            return "leaving"
        return "working" if record is not None and record.out else "idle"


class WatchedWorkers:
    """Workers by name: those that are present, and the ones that left last.

    Only this book keeps workers after they are gone, and how each one's time was spent.

    Attributes:
        deaths: how often any worker was lost.
    """

    def __init__(self) -> None:
        self.deaths = 0
        self._present: dict[str, WatchedWorker] = {}
        self._lost: dict[str, WatchedWorker] = {}  # the newest last

    def welcomed(self, name: str, host: str) -> None:
        """Its set-up begins."""
        self._named(name).host = host

    def ready(self, name: str, engine: str, device: str) -> None:
        """It is set up."""
        worker = self._named(name)
        worker.engine, worker.device = engine, device

    def gave_up(self, name: str, reason: str) -> None:
        """It is gone before its set-up ended."""
        worker = self._present.get(name)
        if worker is not None and (worker.joined is None or worker.left is not None):
            worker.reason = reason
            self._lose(worker)

    def joined(self, worker: str, now: float) -> None:
        """It joined."""
        one = self._named(worker)
        one.joined, one.left, one.reason = now, None, None
        one.paces.clear()
        one.lane.joined(now)

    def left(self, worker: str, now: float, reason: str, announced: bool) -> None:
        """It left."""
        one = self._named(worker)
        one.left, one.reason = now, reason
        one.lane.left(now)
        if not announced:
            one.deaths += 1
            self.deaths += 1
        self._lose(one)

    def worked(self, worker: str, kind: Work, start: float, stop: float) -> None:
        """It answered a block that took this time."""
        one = self._named(worker)
        one.last_answer = stop
        one.lane.worked(kind, start, stop)

    def accepted(self, name: str, pairs: int) -> None:
        """Its answer to a block was used."""
        worker = self._present.get(name)
        if worker is not None:
            worker.blocks += 1
            worker.pairs += pairs

    def moved(self, name: str, sent: int, received: int) -> None:
        """Bytes were sent to it or received from it."""
        worker = self._present.get(name)
        if worker is not None:
            worker.bytes_sent += sent
            worker.bytes_received += received

    def listed(self) -> list[WatchedWorker]:
        """Those present in the order in which they joined, then those gone, the latest first."""
        present = [one for one in self._present.values() if one.joined is not None]
        return [*present, *(one for one in reversed(self._lost.values()) if one.joined is not None)]

    def _named(self, name: str) -> WatchedWorker:
        worker = self._present.get(name)
        if worker is None:
            lost = self._lost.pop(name) if name in self._lost else None
            worker = self._present[name] = lost or WatchedWorker(name)
        return worker

    def _lose(self, worker: WatchedWorker) -> None:
        self._present.pop(worker.name, None)
        if worker.joined is not None:
            self._lost[worker.name] = worker
        while len(self._lost) > _MAX_LOST:
            del self._lost[next(iter(self._lost))]
