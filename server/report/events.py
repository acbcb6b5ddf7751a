"""The activity of workers, from the scheduler's log."""

import collections
import contextlib
import pathlib
from collections.abc import Iterator

import numpy as np
from absl import logging

from kipper.common.files import open_regular_file
from kipper.common.sealed import parse_object
from kipper.server.figures.timeline import Activity
from kipper.server.scheduler.event_log import Record, read_state, record_of
from kipper.server.scheduler.events import AcceptAnswer
from kipper.server.scheduler.state import State
from kipper.server.watch.following import Follower, Work

_Span = tuple[int, int, float, float]  # worker, kind, start, stop


def read_activity(log: pathlib.Path, num_lines: int = 0) -> Activity | None:
    """The activity in `log` and in its rotated part; None if they name no worker.

    `Follower` defines what counts as work.

    Args:
        log: the log of a scheduler.
        num_lines: the least number of lines that it has, after its first.

    Raises:
        LookupError, ValueError: it is so damaged that what is left makes no sense.
    """
    earlier = log.with_name(log.name + ".1")
    begin, earlier_begin = (next(_records(part), None) for part in (log, earlier))
    if begin is None:
        if num_lines:
            logging.warning("%s lacks its %d lines.", log, num_lines)
        return None
    parts, first = [log], begin.now
    if earlier_begin is not None and earlier_begin.now <= first:  # a reboot resets the clock
        parts, first = [earlier, log], earlier_begin.now
    spans, last = _Spans(), first
    follower = Follower(spans)
    state = _state(parts[0])
    if state is not None:
        follower.resume(state.ledger, first)
    for part in parts:
        for record in _records(part, num_lines if part == log else 0):
            for instruction in record.instructions:
                if isinstance(instruction, AcceptAnswer):
                    spans.accepted(instruction.worker, follower.kind_of(instruction.block))
            follower.take(*record)
            last = record.now
    return spans.activity(first, last)


def _state(log: pathlib.Path) -> State | None:
    """The scheduler's state at the beginning of a file; earlier versions did not record it."""
    with contextlib.suppress(OSError, ValueError), open_regular_file(log) as lines:
        first = next(lines, b"")
        parse_object(first)
        return read_state(first.decode())[1]
    return None


def _records(log: pathlib.Path, least: int = 0) -> Iterator[Record]:
    """The records of a file, without damaged ones and events of earlier versions.

    A warning says how many are missing, of `least` at least; a last line that a crash cut short
    does not count.
    """
    found = last = 0
    with contextlib.suppress(OSError), open_regular_file(log) as lines:
        for line in lines:
            with contextlib.suppress(ValueError):
                record = parse_object(line)
                number = record.get("line")
                if isinstance(number, int):
                    if number <= last:
                        continue  # it is there twice
                    found, last = found + 1, number
                yield record_of(record)
    missing = max(last, least) - found
    if missing > 0:
        logging.warning("%d of %d lines of %s are missing.", missing, max(last, least), log)


class _Spans:
    """Collects what a follower reports."""

    def __init__(self) -> None:
        self._workers: dict[str, int] = {}
        self._came: dict[str, float] = {}
        self._deaths: list[tuple[int, float, str]] = []
        self._connected: list[tuple[int, float, float]] = []
        self._spans: list[_Span] = []
        self._used: collections.Counter[str] = collections.Counter()

    def joined(self, worker: str, now: float) -> None:
        self._workers.setdefault(worker, len(self._workers))
        self._came[worker] = now

    def left(self, worker: str, now: float, reason: str, announced: bool) -> None:
        self._connected.append((self._workers[worker], self._came.pop(worker), now))
        if not announced:
            self._deaths.append((self._workers[worker], now, reason))

    def accepted(self, worker: str, kind: Work) -> None:
        self._used[worker] += kind != Work.ROWS

    def worked(self, worker: str, kind: int, start: float, stop: float) -> None:
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
            blocks=tuple(self._used[worker] for worker in self._workers),
            seconds=last - first,
            worker=spans[:, 0].astype(int),
            kind=spans[:, 1].astype(int),
            start=spans[:, 2] - first,
            stop=spans[:, 3] - first,
            connected=tuple((w, a - first, b - first) for w, a, b in self._connected),
            deaths=tuple((w, at - first, reason) for w, at, reason in self._deaths),
        )
