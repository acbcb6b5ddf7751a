"""What workers did and when, out of the scheduler's log."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kipper.server.figures.timeline import KINDS, Activity
from kipper.server.scheduler.events import FAILED, NUMERICAL
from kipper.server.scheduler.placement import MOST_URGENT

_KERNEL, _GRADIENT, _EVALUATION, _ROWS, _IN_VAIN = range(len(KINDS))

_Span = tuple[int, int, float, float]  # worker, kind, start, stop


def read_activity(log: pathlib.Path) -> Activity | None:
    """What `log` and the part of it that was set aside tell; None where there is nothing to tell.

    A worker answers the blocks it has one by one, so it works at a block from when it was sent, or
    from its last answer, whichever is later. Blocks that were taken back, or that were lost on the
    way, count as no work.
    """
    watched = _Watched()
    for record in _records(log):
        watched.take(record)
    return watched.activity()


def _records(log: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The whole lines of both files in order; of a log before a reboot nothing."""
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
                    break  # its clock is another's
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


class _Watched:
    """Follows events, which say in order what was sent, answered and used."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = 0.0
        self._workers: dict[str, int] = {}
        self._kinds: dict[int, int] = {}
        self._accepted: set[int] = set()
        self._sent: dict[tuple[str, int], float] = {}
        self._free: dict[str, float] = {}
        self._came: dict[str, float] = {}
        self._there: list[tuple[int, float, float]] = []
        self._spans: list[_Span] = []

    def take(self, record: dict[str, Any]) -> None:
        """One line of the log."""
        now = float(record["at"])
        if self._first is None:
            self._first = now
        self._last = now
        name, *fields = record["event"]
        then = record["then"]
        if name == "BlocksQueued":
            self._queued(fields[0])
        elif name == "WorkerJoined":
            self._leave(fields[0], now)
            self._came[fields[0]] = self._free[fields[0]] = now
            self._workers.setdefault(fields[0], len(self._workers))
        elif name == "WorkerLeft":
            self._leave(fields[0], now)
        elif name == "BlockFinished":
            self._answered(fields[0], fields[1], now, in_vain=fields[1] in self._accepted)
        elif name == "BlockFailed" and fields[2] in (NUMERICAL, FAILED):
            self._answered(fields[0], fields[1], now, in_vain=True)
        elif name == "BlockFailed":
            self._sent.pop((fields[0], fields[1]), None)
        for instruction in then:
            if instruction[0] == "SendBlock":
                self._sent[instruction[1], instruction[2]] = now
            elif instruction[0] == "AcceptAnswer":
                self._accepted.add(instruction[2])
            elif instruction[0] == "DropWorker":
                self._leave(instruction[1], now)

    def activity(self) -> Activity | None:
        """All that was taken."""
        if self._first is None or not self._workers:
            return None
        for worker in list(self._came):
            self._leave(worker, self._last)
        spans = np.array(self._spans, float).reshape(-1, 4)
        return Activity(
            workers=tuple(self._workers),
            seconds=self._last - self._first,
            worker=spans[:, 0].astype(int),
            kind=spans[:, 1].astype(int),
            start=spans[:, 2] - self._first,
            stop=spans[:, 3] - self._first,
            there=tuple((w, a - self._first, b - self._first) for w, a, b in self._there),
        )

    def _queued(self, blocks: list[list[Any]]) -> None:
        for block, shape, priority, *_ in blocks:
            if shape.startswith("vjp"):
                kind = _GRADIENT
            elif shape.startswith("K"):
                kind = _KERNEL if priority == MOST_URGENT else _EVALUATION
            else:
                kind = _ROWS
            self._kinds[block] = kind

    def _answered(self, worker: str, block: int, now: float, in_vain: bool) -> None:
        sent = self._sent.pop((worker, block), None)
        if sent is None or worker not in self._workers:
            return
        kind = self._kinds.get(block, _KERNEL)
        if in_vain and kind != _ROWS:
            kind = _IN_VAIN
        start = max(sent, self._free.get(worker, sent))
        self._free[worker] = now
        self._spans.append((self._workers[worker], kind, start, now))

    def _leave(self, worker: str, now: float) -> None:
        came = self._came.pop(worker, None)
        if came is not None:
            self._there.append((self._workers[worker], came, now))
        for key in [key for key in self._sent if key[0] == worker]:
            del self._sent[key]
