"""Keeps what onlookers are shown of a run, and gives it out as snapshots.

Fed by the thread that runs the pool; `newest` may be read by any. An error in here is logged and
ends the watch, never the run.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from absl import logging

from kipper.server.measures import ACCURACY, Score
from kipper.server.scheduler import events
from kipper.server.scheduler.events import Event, Instruction
from kipper.server.scheduler.ledger import WorkerRecord
from kipper.server.scheduler.scheduler import Scheduler
from kipper.server.watch.following import Follower
from kipper.server.watch.matrix import FillMap, Grid, Picture
from kipper.server.watch.snapshot import Record, ShownImages, ShownLane, Snapshot
from kipper.server.watch.workers import WatchedWorker, WatchedWorkers

SECONDS_BETWEEN_SNAPSHOTS = 0.5
_MOST_LANES = 64
# Of evaluated images: an onlooker may yet ask for those before the newest.
_IMAGES_KEPT = 2
# Of matrices, between two snapshots.
_MOST_MAPS = 50

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _harmless(
    method: "Callable[Concatenate[Watch, _P], None]",
) -> "Callable[Concatenate[Watch, _P], None]":
    """A method whose first error is logged, and ends all that such methods do."""

    @functools.wraps(method)
    def wrapped(self: "Watch", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if self.is_broken:
            return
        try:
            method(self, *args, **kwargs)
        except Exception:
            self.stand_still()

    return wrapped


class Watch:
    """What is known of a run under way.

    Attributes:
        newest: the last snapshot; before the first, one of a run that is starting.
        address: where it is shown, for status.json.
        is_broken: whether it stands still after an error.

    Args:
        about: the part "run" of /api/state without what status.json says, and "kipper", the
            version.
        now, unix: seconds of the scheduler's clock, and since 1970.
    """

    def __init__(self, about: Mapping[str, Any], now: float, unix: float):
        self.address: str | None = None
        self.is_broken = False
        self.newest = Snapshot(0, now, unix, about, {"state": "starting"})
        self._workers = WatchedWorkers()
        self.follower = Follower(self._workers)
        self.maps: list[FillMap] = []
        self._accepted: set[int] = set()  # since the last snapshot
        self._images: tuple[ShownImages, ...] = ()

    def stand_still(self) -> None:
        """Logs the exception that is being handled, and does nothing from now on."""
        self.is_broken = True
        logging.exception("The live page stands still; the run goes on.")

    # --- told by the pool ------------------------------------------------------------------------

    @_harmless
    def handled(self, now: float, event: Event, then: Sequence[Instruction]) -> None:
        """What the scheduler was told, and what it answered."""
        self.follower.take(now, event, then)
        if isinstance(event, events.BlocksWithdrawn):
            for fill in self.maps:
                fill.withdrawn(event.blocks, self._accepted)

    def planned(self, grid: Grid) -> Callable[[Iterable[int]], None]:
        """A matrix is to be computed; returns what is to be told its blocks' numbers, in order."""
        fill = FillMap(grid)
        self.maps = [*self.maps[-_MOST_MAPS:], fill]
        return fill.queued

    @_harmless
    def welcomed(self, worker: str, host: str) -> None:
        """A worker came, and is to be made ready."""
        self._workers.welcomed(worker, host)

    @_harmless
    def ready(self, worker: str, engine: str, device: str) -> None:
        """It is ready, and said this of itself."""
        self._workers.ready(worker, engine, device)

    @_harmless
    def gave_up(self, worker: str, reason: str) -> None:
        """It went before it was ready."""
        self._workers.gave_up(worker, reason)

    @_harmless
    def accepted(self, worker: str, block: int, pairs: int) -> None:
        """Its answer to a block of so many kernel entries was used."""
        self._workers.accepted(worker, pairs)
        self._accepted.add(block)

    @_harmless
    def moved(self, worker: str, sent: int = 0, received: int = 0) -> None:
        """Bytes of images, kernels and cotangents went to it, or came from it."""
        self._workers.moved(worker, sent, received)

    # --- told by the session ---------------------------------------------------------------------

    @_harmless
    def evaluated(self, images: ShownImages) -> None:
        """The images of an evaluation."""
        self._images = (*self._images, images)[-_IMAGES_KEPT:]

    def is_due(self, now: float) -> bool:
        """Whether the newest snapshot is old enough for another."""
        return now - self.newest.now >= SECONDS_BETWEEN_SNAPSHOTS or self.newest.number == 0

    @_harmless
    def publish(
        self,
        now: float,
        unix: float,
        status: Mapping[str, Any],
        scheduler: Scheduler | None,
        records: tuple[Record, ...],
        natural: float | None,
    ) -> None:
        """Makes a snapshot.

        Args:
            now, unix: seconds of the scheduler's clock, and since 1970.
            status: what status.json says.
            scheduler: as it is.
            records: of metrics.jsonl; the same object as before where nothing was added.
            natural: the score of natural images, as in records; None: not known.
        """
        ledger = scheduler.ledger if scheduler is not None else None
        blocks = ledger.blocks if ledger is not None else {}
        for fill in self.maps:
            fill.look(blocks)
        self._accepted.clear()
        there = ledger.workers if ledger is not None else {}
        workers = self._workers.listed()
        for worker in workers:
            worker.look(now)
        test = Score.read(records[0], "test") if records else None
        self.newest = Snapshot(
            number=self.newest.number + 1,
            now=now,
            unix=unix,
            about=self.newest.about,
            status=dict(status),
            records=records,
            measure=dataclasses.asdict(test.measure if test else ACCURACY),
            natural=natural,
            workers=[worker.shown(there.get(worker.name), unix - now) for worker in workers],
            deaths=self._workers.deaths,
            counters=_counters(scheduler) if scheduler is not None else {},
            matrix=self._matrix_shown(),
            lanes=[self._lane(one, there.get(one.name)) for one in workers[:_MOST_LANES]],
            images=self._images,
        )

    def _lane(self, worker: WatchedWorker, record: WorkerRecord | None) -> ShownLane:
        busy = None
        if record is not None and record.out:
            block, lease = next(iter(record.out.items()))
            since = lease.started if lease.started is not None else lease.sent
            busy = self.follower.kind_of(block), since
        return ShownLane(worker.name, worker.lane.copy(), busy)

    def _matrix_shown(self) -> Picture | None:
        """The newest that a step waits for; else one of an evaluation that is under way."""
        urgent = [fill for fill in self.maps if fill.grid.urgent][-1:]
        others = [fill for fill in self.maps if not fill.grid.urgent]
        going = [fill for fill in (*urgent, *others) if fill.is_under_way]
        self.maps = [*urgent, *(fill for fill in others if fill in going or fill is others[-1])]
        best = (*going, *urgent[-1:], *others[-1:])[:1]
        return best[0].picture() if best else None


def _counters(scheduler: Scheduler) -> dict[str, Any]:
    counters = dataclasses.asdict(scheduler.counters)
    return {
        "retries": counters["lost"] + counters["failed"],
        "duplicates": counters["copies"],
        **counters,
    }
