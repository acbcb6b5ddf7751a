"""What is known of each worker of a run, those that are gone included."""

import collections
import dataclasses
from typing import Any

from kipper.server.scheduler.ledger import WorkerRecord
from kipper.server.watch.timeline import Lane

# Workers that are gone and remembered: names may be new ones each time.
_MOST_LOST = 200
# Over which a worker's pace is taken.
_PACE_SECONDS = 30.0


@dataclasses.dataclass(slots=True)
class WatchedWorker:
    """A worker, there or gone. Times are seconds of the scheduler's clock.

    Attributes:
        joined: when it came last; None while it is made ready.
        left: when it went; None while it is there.
        reason: why.
        deaths: how often it was lost.
        blocks, pairs: that it computed and of which the answers were used.
        last_answer: when an answer of it came.
        bytes_sent, bytes_received: of images, kernels and cotangents, to it and from it.
        lane: of the timeline.
        paces: its pairs at moments of the last `_PACE_SECONDS`.
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

    def look(self, now: float) -> None:
        """Notes how far it has come; to be called now and then, which makes its pace known."""
        self.paces.append((now, self.pairs))
        while len(self.paces) > 2 and self.paces[1][0] <= now - _PACE_SECONDS:
            self.paces.popleft()

    @property
    def pairs_per_second(self) -> float:
        """Between the first and the last of the looks that are remembered."""
        if self.left is not None or len(self.paces) < 2:
            return 0.0
        (start, before), (stop, after) = self.paces[0], self.paces[-1]
        return round((after - before) / (stop - start), 1) if stop > start else 0.0

    def shown(self, record: WorkerRecord | None, to_unix: float) -> dict[str, Any]:
        """As /api/workers has it.

        Args:
            record: the scheduler's, of one that is there.
            to_unix: what makes seconds since 1970 of the scheduler's times, by being added.
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
    """All workers by name: those that are there, and the ones lost last.

    Attributes:
        deaths: how often a worker was lost.
    """

    def __init__(self) -> None:
        self.deaths = 0
        self._there: dict[str, WatchedWorker] = {}
        self._lost: dict[str, WatchedWorker] = {}  # the one lost last at the end

    def welcomed(self, name: str, host: str) -> None:
        """It came and is to be made ready."""
        self._named(name).host = host

    def ready(self, name: str, engine: str, device: str) -> None:
        """What it said of itself."""
        worker = self._named(name)
        worker.engine, worker.device = engine, device

    def gave_up(self, name: str, reason: str) -> None:
        """It is gone, and was never ready."""
        worker = self._there.get(name)
        if worker is not None and (worker.joined is None or worker.left is not None):
            worker.reason = reason
            self._lose(worker)

    def came(self, worker: str, now: float) -> None:
        """See `Onlooker`."""
        one = self._named(worker)
        one.joined, one.left, one.reason = now, None, None
        one.paces.clear()
        one.lane.came(now)

    def left(self, worker: str, now: float, reason: str, in_peace: bool) -> None:
        """See `Onlooker`."""
        one = self._named(worker)
        one.left, one.reason = now, reason
        one.lane.left(now)
        if not in_peace:
            one.deaths += 1
            self.deaths += 1
        self._lose(one)

    def spent(self, worker: str, kind: int, start: float, stop: float) -> None:
        """See `Onlooker`."""
        one = self._named(worker)
        one.last_answer = stop
        one.lane.spent(kind, start, stop)

    def accepted(self, name: str, pairs: int) -> None:
        """An answer of it was used."""
        worker = self._there.get(name)
        if worker is not None:
            worker.blocks += 1
            worker.pairs += pairs

    def moved(self, name: str, sent: int, received: int) -> None:
        """Bytes went to it, or came from it."""
        worker = self._there.get(name)
        if worker is not None:
            worker.bytes_sent += sent
            worker.bytes_received += received

    def listed(self) -> list[WatchedWorker]:
        """Those that are there in the order in which they came, then the lost, the last first."""
        there = [one for one in self._there.values() if one.joined is not None]
        return [*there, *(one for one in reversed(self._lost.values()) if one.joined is not None)]

    def _named(self, name: str) -> WatchedWorker:
        worker = self._there.get(name)
        if worker is None:
            lost = self._lost.pop(name) if name in self._lost else None
            worker = self._there[name] = lost or WatchedWorker(name)
        return worker

    def _lose(self, worker: WatchedWorker) -> None:
        self._there.pop(worker.name, None)
        if worker.joined is not None:
            self._lost[worker.name] = worker
        while len(self._lost) > _MOST_LOST:
            del self._lost[next(iter(self._lost))]
