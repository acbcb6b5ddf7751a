"""status.json: how far a run is, for other processes to read."""

import dataclasses
import os
import pathlib
import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kipper.common.errors import WriteError
from kipper.common.files import Dispensable, not_following, write_bytes
from kipper.common.sealed import sealed
from kipper.common.strict_json import json_text
from kipper.server.measures import Score
from kipper.server.records import Account, Facts, Json, read_facts

_SECONDS_BETWEEN_WRITES = 0.2
# A live coordinator writes about once a second. One on another host that has not written for this
# long is gone.
SILENCE_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Status(Facts):
    """A run as its coordinator last described it; None for everything that it has not reported.

    Attributes:
        state: starting, running, finished, interrupted or failed.
        steps: gradient steps to make; 0 for Label Solve.
        dashboard: URL of the live page.
        blocks: kernel blocks that this coordinator has received.
        step, loss: those of the newest gradient step.
        rows_of, rows, rows_total: what Label Solve is passing over, and how far it is.
        evaluated_step, test: the newest evaluation.
        events: lines of the scheduler's log, for a run that has finished.
        message: why the run failed.
        liars: workers that computed wrong numbers, and where the run began again; see `RunResult`.
        set_aside: workers that fail what others can do and may not return yet, with the reason.
        may_recover: whether the reason may pass, so that the same command may succeed later.
        numerics: see `RunNumerics`.
        waits_for: the numeric identity that a worker must have while there is none.
    """

    state: str | None = None
    host: str | None = None
    pid: int | None = None
    steps: int | None = None
    dashboard: str | None = None
    blocks: int | None = None
    workers: int | None = None
    account: Account = dataclasses.field(default_factory=Account)
    step: int | None = None
    loss: float | None = None
    seconds_left: float | None = None
    rows_of: str | None = None
    rows: int | None = None
    rows_total: int | None = None
    evaluated_step: int | None = None
    test: Score | None = None
    checkpoint_step: int | None = None
    events: int | None = None
    message: str | None = None
    liars: Mapping[str, int] | None = None
    set_aside: Mapping[str, str] | None = None
    may_recover: bool | None = None
    numerics: Json | None = None
    waits_for: str | None = None

    @property
    def null(self) -> Collection[str]:
        # Of a run that has begun, null says that there is no page, or that the time is unknown.
        if self.state in (None, "starting"):
            return ()
        is_under_way = self.step is not None or self.rows is not None
        return ("dashboard", "seconds_left") if is_under_way else ("dashboard",)


class StatusWriter:
    """Keeps status.json on disk, replaced whole, at most five times a second and not flushed.

    The run goes on if it cannot be written.

    `status` is the newest one, written or not; `on_write` is called after each write, and `fresh`
    before it, for fields that need not be known in between.
    """

    def __init__(
        self, path: pathlib.Path, on_write: Callable[[Status], None] = lambda _status: None
    ):
        self.status = Status("starting", socket.gethostname(), os.getpid())
        self.fresh: Callable[[], Mapping[str, Any]] = dict
        self._path = path
        self._writing = Dispensable(path)
        self._on_write = on_write
        self._written = float("-inf")

    def update(self, now: bool = False, **changes: Any) -> None:
        """Changes fields of the status; `now` writes it even if the last write was a moment ago."""
        if changes:
            self.status = dataclasses.replace(self.status, **changes)
        if now or time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self.status = dataclasses.replace(self.status, **self.fresh())
            content = json_text(sealed(self.status.record())).encode()
            with self._writing.attempt():
                try:
                    write_bytes(self._path, content, durably=False)
                except WriteError:
                    if not (now and self._path.exists()):
                        raise
                    _write_in_place(self._path, content)
            self._written = time.monotonic()
            self._on_write(self.status)


def _write_in_place(path: pathlib.Path, content: bytes) -> None:
    """Replaces the content of a file, which needs no new block of a full disk."""
    with open(path, "r+b", buffering=0, opener=not_following) as file:
        padded = content.ljust(os.fstat(file.fileno()).st_size)
        file.write(padded)


def read_status(path: pathlib.Path) -> Status:
    """The last status written; `Status()` if there is none that can be read."""
    return read_facts(path, Status) or Status()


def silence(path: pathlib.Path) -> float:
    """Seconds since a status was last written; infinite if there is none."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return float("inf")


def was_written_lately(path: pathlib.Path) -> bool:
    """Whether a coordinator on another host may be alive, judging by its last status."""
    return silence(path) < SILENCE_SECONDS
