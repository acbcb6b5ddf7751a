"""A scheduler with its log: what a bug report attaches, never longer than need be."""

import pathlib
from collections.abc import Callable

from kipper.server.scheduler.event_log import EventLog
from kipper.server.scheduler.events import Event, Instruction, WorkerDraining, WorkerJoined
from kipper.server.scheduler.rules import Policy
from kipper.server.scheduler.scheduler import Scheduler

# Of a log, before it is begun anew; the one before is kept.
LOG_BYTES = 64 * 2**20


class RecordedScheduler:
    """A scheduler of which all that it is told and answers is written down.

    Attributes:
        scheduler: as it is at present.

    Args:
        policy: of the scheduler.
        path: of the log; None: there is none.
        observer: called with each event, when it happened, and what followed.
    """

    def __init__(
        self,
        policy: Policy,
        path: pathlib.Path | None,
        observer: Callable[[float, Event, list[Instruction]], None] | None = None,
    ):
        self._observer = observer
        self.scheduler = Scheduler(policy)
        self._path = path
        self._log = EventLog(path, policy, self.scheduler.counters) if path is not None else None

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """As the scheduler's."""
        instructions = self._handle(event, now)
        if self._observer is not None:
            self._observer(now, event, instructions)
        return instructions

    def _handle(self, event: Event, now: float) -> list[Instruction]:
        instructions = self.scheduler.handle(event, now)
        if self._log is not None:
            self._log.record(now, event, instructions)
        return instructions

    def tend(self, now: float) -> None:
        """Writes out the log, and begins it anew where it is long and no block is under way.

        Its scheduler is then new too, so that a replay needs nothing from before; it learns block
        times again.
        """
        if self._log is None or self._path is None:
            return
        self._log.flush()
        before = self.scheduler
        if before.ledger.blocks or self._log.size < LOG_BYTES:
            return
        self._log.close()
        self.scheduler = Scheduler(before.policy, before.counters)
        self._log = EventLog(self._path, before.policy, before.counters)
        for worker, record in before.ledger.workers.items():
            # The observer knows them.
            self._handle(WorkerJoined(worker), now)
            if record.draining:
                self._handle(WorkerDraining(worker), now)

    def close(self) -> None:
        """Ends the log."""
        if self._log is not None:
            self._log.close()
            self._log = None
