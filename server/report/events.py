"""The activity of workers, from the scheduler's log."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kipper.server.figures.timeline import Activity
from kipper.server.scheduler.events import from_json
from kipper.server.watch.following import Follower

_Span = tuple[int, int, float, float]  # worker, kind, start, stop


def read_activity(log: pathlib.Path) -> Activity | None:
    """The activity in `log` and in its rotated part; None if they name no worker.

    `Follower` defines what counts as work.
    """
    spans = _Spans()
    follower = Follower(spans)
    first = last = None
    for record in _records(log):
        event, *then = map(from_json, (record["event"], *record["then"]))
        last = float(record["at"])
        first = last if first is None else first
        follower.take(last, event, then)  # type: ignore[arg-type]
    return None if first is None or last is None else spans.activity(first, last)


def _records(log: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The complete lines of both files in order, without those of a log before a reboot."""
    earlier = log.with_name(log.name + ".1")
    begun = _first_time(log)
    for path in (earlier, log):
        try:
            lines = path.open()
        except OSError:
            continue
        with lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # cut short by a crash
                if "at" not in record:
                    continue
                if path is earlier and (begun is None or record["at"] > begun):
                    break  # from before a reboot, which resets the clock
                yield record


def _first_time(log: pathlib.Path) -> float | None:
    try:
        with log.open() as lines:
            for line in lines:
                record = json.loads(line)
                if "at" in record:
                    return float(record["at"])
    except (OSError, ValueError):
        pass
    return None


class _Spans:
    """Collects what a follower reports."""

    def __init__(self) -> None:
        self._workers: dict[str, int] = {}
        self._came: dict[str, float] = {}
        self._deaths: list[tuple[int, float, str]] = []
        self._there: list[tuple[int, float, float]] = []
        self._spans: list[_Span] = []

    def came(self, worker: str, now: float) -> None:
        self._workers.setdefault(worker, len(self._workers))
        self._came[worker] = now

    def left(self, worker: str, now: float, reason: str, in_peace: bool) -> None:
        self._there.append((self._workers[worker], self._came.pop(worker), now))
        if not in_peace:
            self._deaths.append((self._workers[worker], now, reason))

    def spent(self, worker: str, kind: int, start: float, stop: float) -> None:
        self._spans.append((self._workers[worker], kind, start, stop))

    def activity(self, first: float, last: float) -> Activity | None:
        """The activity between two times; None if no worker came."""
        if not self._workers:
            return None
        for worker in list(self._came):
            self.left(worker, last, "", True)
        spans = np.array(self._spans, float).reshape(-1, 4)
        return Activity(
            workers=tuple(self._workers),
            seconds=last - first,
            worker=spans[:, 0].astype(int),
            kind=spans[:, 1].astype(int),
            start=spans[:, 2] - first,
            stop=spans[:, 3] - first,
            there=tuple((w, a - first, b - first) for w, a, b in self._there),
            deaths=tuple((w, at - first, reason) for w, at, reason in self._deaths),
        )
