"""Collects what the live page shows of a run, and publishes it as immutable views.

The pool's thread calls it; any thread may read `newest`. An error in here is logged and stops the
watch, never the run.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec

from absl import logging

from kipper.server.measures import ACCURACY, Score
from kipper.server.scheduler import events
from kipper.server.scheduler.events import Event, Instruction
from kipper.server.scheduler.ledger import Ledger, WorkerRecord
from kipper.server.scheduler.scheduler import Scheduler
from kipper.server.watch.following import Follower, Work
from kipper.server.watch.matrix import FillMap, Grid, MatrixView
from kipper.server.watch.run_view import Record, RunView, ShownImages, ShownLane
from kipper.server.watch.workers import WatchedWorker

SECONDS_BETWEEN_VIEWS = 0.5
ENDS = ("finished", "interrupted", "failed")  # the states that a run ends in
_MAX_LANES = 64
# Limit on workers that are gone, because each new worker may have a new name.
_MAX_LOST = 200
# More than one evaluation's images, because a browser may still request those before the newest.
_IMAGES_KEPT = 2
# Limit on the matrices between two views.
_MAX_MAPS = 50

_P = ParamSpec("_P")


def _harmless(
    method: "Callable[Concatenate[Watch, _P], None]",
) -> "Callable[Concatenate[Watch, _P], None]":
    """Logs the first error of any such method; after it all such methods do nothing."""

    @functools.wraps(method)
    def wrapped(self: "Watch", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if self.is_broken:
            return
        try:
            method(self, *args, **kwargs)
        except Exception:
            self.disable()

    return wrapped


class Watch:
    """Collects the facts about a run in progress.

    Only the watch keeps workers after they are gone, and how each of them spent its time.

    Attributes:
        newest: the last view; initially that of a run that is starting.
        address: the address of the live page, for status.json.
        is_broken: whether an error has stopped it.

    Args:
        about: the constant part of "run" in /api/state, and kipper's version as "kipper".
        now, unix: the time on the scheduler's clock, and as Unix time.
    """

    def __init__(self, about: Mapping[str, Any], now: float, unix: float):
        self.address: str | None = None
        self.is_broken = False
        self.newest = RunView(0, now, unix, about, {"state": "starting"})
        self._present: dict[str, WatchedWorker] = {}
        self._lost: dict[str, WatchedWorker] = {}  # the newest last
        self._deaths = 0
        self.follower = Follower(self)
        self.maps: list[FillMap] = []
        self._accepted: set[int] = set()  # since the last view
        self._images: tuple[ShownImages, ...] = ()

    def disable(self) -> None:
        """Logs the current exception and stops the watch."""
        self.is_broken = True
        logging.exception("The live page is no longer updated; the run continues.")

    # --- called by the pool ----------------------------------------------------------------------

    @_harmless
    def handled(self, now: float, event: Event, then: Sequence[Instruction]) -> None:
        """Takes in an event and the scheduler's instructions."""
        self.follower.take(now, event, then)
        if isinstance(event, events.BlocksWithdrawn):
            for fill in self.maps:
                fill.withdrawn(event.blocks, self._accepted)

    def planned(self, grid: Grid) -> Callable[[Iterable[int]], None]:
        """Announces a matrix; returns a function that takes its blocks' numbers, in order."""
        fill = FillMap(grid)
        self.maps = [*self.maps[-_MAX_MAPS:], fill]
        return fill.queued

    @_harmless
    def welcomed(self, worker: str, host: str) -> None:
        """A worker's set-up begins."""
        self._named(worker).host = host

    @_harmless
    def ready(self, worker: str, engine: str, device: str) -> None:
        """A worker is set up."""
        one = self._named(worker)
        one.engine, one.device = engine, device

    @_harmless
    def gave_up(self, worker: str, reason: str) -> None:
        """A worker was removed before its set-up ended."""
        one = self._present.get(worker)
        if one is not None and (one.joined is None or one.left is not None):
            one.reason = reason
            self._lose(one)

    @_harmless
    def accepted(self, worker: str, block: int, pairs: int) -> None:
        """A worker's answer to a block with this number of kernel entries was accepted."""
        self._accepted.add(block)
        one = self._present.get(worker)
        if one is not None:
            one.blocks += 1
            one.pairs += pairs

    @_harmless
    def moved(self, worker: str, sent: int = 0, received: int = 0) -> None:
        """Bytes of images, kernels and cotangents were sent to a worker, or received from it."""
        one = self._present.get(worker)
        if one is not None:
            one.bytes_sent += sent
            one.bytes_received += received

    # --- called by the follower ------------------------------------------------------------------

    def joined(self, worker: str, now: float) -> None:
        """A worker joined."""
        one = self._named(worker)
        one.joined, one.left, one.reason = now, None, None
        one.paces.clear()
        one.lane.joined(now)

    def left(self, worker: str, now: float, reason: str, announced: bool) -> None:
        """A worker left or was lost."""
        one = self._named(worker)
        one.left, one.reason = now, reason
        one.lane.left(now)
        if not announced:
            one.deaths += 1
            self._deaths += 1
        self._lose(one)

    def worked(self, worker: str, kind: Work, start: float, stop: float) -> None:
        """A worker answered a block that took this time."""
        one = self._named(worker)
        one.last_answer = stop
        one.lane.worked(kind, start, stop)

    # --- called by the session -------------------------------------------------------------------

    @_harmless
    def evaluated(self, images: ShownImages) -> None:
        """Adds the images of an evaluation."""
        self._images = (*self._images, images)[-_IMAGES_KEPT:]

    def is_due(self, now: float) -> bool:
        """Whether the newest view is old enough for the next one."""
        return now - self.newest.now >= SECONDS_BETWEEN_VIEWS or self.newest.number == 0

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
        """Publishes a view of the run.

        Args:
            now, unix: the time on the scheduler's clock, and as Unix time.
            status: contents of status.json.
            scheduler: the scheduler of the run, if it has one already.
            records: the records of metrics.jsonl; the same object as before if nothing was added.
            natural: the score of natural images, as in records; None if not known.
        """
        ledger = scheduler.ledger if scheduler is not None else Ledger()
        for fill in self.maps:
            fill.update(ledger.blocks)
        self._accepted.clear()
        everyone = (*self._present.values(), *reversed(self._lost.values()))
        workers = [worker for worker in everyone if worker.joined is not None]
        for worker in workers:
            worker.measure_pace(now)
        has_ended = status.get("state") in ENDS
        test = Score.read(records[0], "test") if records else None
        self.newest = RunView(
            number=self.newest.number + 1,
            now=now,
            unix=unix,
            about=self.newest.about,
            status=dict(status),
            records=records,
            measure=dataclasses.asdict(test.measure if test else ACCURACY),
            natural=natural,
            workers=[
                one.to_json(ledger.workers.get(one.name), unix - now, has_ended) for one in workers
            ],
            deaths=self._deaths,
            counters=_counters(scheduler) if scheduler is not None else {},
            matrix=self._matrix_shown(),
            lanes=[self._lane(one, ledger.workers.get(one.name)) for one in workers[:_MAX_LANES]],
            images=self._images,
        )

    def _named(self, name: str) -> WatchedWorker:
        worker = self._present.get(name)
        if worker is None:
            worker = self._lost.pop(name) if name in self._lost else WatchedWorker(name)
            self._present[name] = worker
        return worker

    def _lose(self, worker: WatchedWorker) -> None:
        self._present.pop(worker.name, None)
        if worker.joined is not None:
            self._lost[worker.name] = worker
        while len(self._lost) > _MAX_LOST:
            del self._lost[next(iter(self._lost))]

    def _lane(self, worker: WatchedWorker, record: WorkerRecord | None) -> ShownLane:
        busy = None
        if record is not None and record.out:
            block, lease = next(iter(record.out.items()))
            since = lease.started if lease.started is not None else lease.sent
            busy = self.follower.kind_of(block), since
        return ShownLane(worker.name, worker.lane.copy(), busy)

    def _matrix_shown(self) -> MatrixView | None:
        """The newest matrix that a step waits for, or that of an evaluation if that one is done."""
        urgent = [fill for fill in self.maps if fill.grid.urgent][-1:]
        others = [fill for fill in self.maps if not fill.grid.urgent]
        going = [fill for fill in (*urgent, *others) if fill.is_in_progress]
        self.maps = [*urgent, *(fill for fill in others if fill in going or fill is others[-1])]
        best = (*going, *urgent[-1:], *others[-1:])[:1]
        return best[0].view() if best else None


def _counters(scheduler: Scheduler) -> dict[str, Any]:
    counters = dataclasses.asdict(scheduler.counters)
    return {
        "retries": counters["lost"] + counters["failed"],
        "duplicates": counters["copies"],
        **counters,
    }
