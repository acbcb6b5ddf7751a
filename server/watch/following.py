"""Works out from the scheduler's events, live or logged, what each worker did and when."""

import dataclasses
import enum
from collections.abc import Sequence
from typing import Protocol

from kipper.server.scheduler import events
from kipper.server.scheduler.events import Event, Instruction
from kipper.server.scheduler.ledger import Ledger
from kipper.server.scheduler.rules import MOST_URGENT


class Work(enum.IntEnum):
    """What a worker's time is spent on."""

    KERNEL = 0
    GRADIENT = 1
    EVALUATION = 2
    ROWS = 3
    WASTED = 4


class ActivityListener(Protocol):
    """Receives what a `Follower` finds. Times are seconds of the scheduler's clock."""

    def joined(self, worker: str, now: float) -> None:
        """A worker joined."""

    def left(self, worker: str, now: float, reason: str, announced: bool) -> None:
        """It left; `announced`: after draining, with all its blocks answered."""

    def worked(self, worker: str, kind: Work, start: float, stop: float) -> None:
        """It answered a block that took this time."""


@dataclasses.dataclass(slots=True)
class _Block:
    """A block that is queued or out.

    Attributes:
        out: number of workers that have it.
        settled: whether its result is accepted or no longer needed.
    """

    kind: Work
    out: int = 0
    accepted: bool = False
    settled: bool = False


class Follower:
    """Follows events and tells a listener what workers did.

    A worker answers its blocks one by one, so it works on a block from when it was sent or from its
    last answer, whichever is later. Cancelled and lost blocks do not count as work. Blocks are
    forgotten once they are settled and not out.

    Attributes:
        blocks: the blocks it remembers.
    """

    def __init__(self, listener: ActivityListener):
        self._listener = listener
        self.blocks: dict[int, _Block] = {}
        self._sent: dict[str, dict[int, float]] = {}  # of each present worker
        self._free: dict[str, float] = {}
        self._draining: set[str] = set()

    def take(self, now: float, event: Event, then: Sequence[Instruction]) -> None:
        """Takes in an event, its time, and the instructions that followed."""
        match event:
            case events.BlockFinished(worker, block):
                self._answered(worker, block, now, failed=False)
            case events.BlocksQueued(specs):
                for spec in specs:
                    self.blocks[spec.block] = _Block(_kind_of(spec))
            case events.BlockFailed(worker, block, kind):
                if kind in (events.NUMERICAL, events.FAILED):
                    self._answered(worker, block, now, failed=True)
                else:
                    self._returned(worker, block)
            case events.BlocksWithdrawn(blocks):
                for block in blocks:
                    self._settle(block)
            case events.WorkerJoined(worker):
                self._leave(worker, now, "another worker of this name joined")
                self._sent[worker], self._free[worker] = {}, now
                self._listener.joined(worker, now)
            case events.WorkerDraining(worker):
                self._draining.add(worker)
            case events.WorkerLeft(worker, reason):
                self._leave(worker, now, reason)
        for instruction in then:
            match instruction:
                case events.SendBlock(worker, block):
                    self._send(worker, block, now)
                case events.AcceptAnswer(_, block):
                    if block in self.blocks:
                        self.blocks[block].accepted = True
                    self._settle(block)
                case events.DropWorker(worker, reason) | events.SetAsideWorker(worker, reason):
                    self._leave(worker, now, reason)

    def resume(self, ledger: Ledger, now: float) -> None:
        """Takes in the workers and blocks that the scheduler had before the first event."""
        for block, entry in ledger.blocks.items():
            accepted = entry.accepted is not None
            self.blocks[block] = _Block(_kind_of(entry.spec), 0, accepted, accepted)
        for worker, record in ledger.workers.items():
            self.take(now, events.WorkerJoined(worker), [])
            if record.draining:
                self._draining.add(worker)
            for block, lease in record.out.items():
                self._send(worker, block, lease.sent)

    def kind_of(self, block: int) -> Work:
        """What the time on a block that is out is spent on."""
        record = self.blocks.get(block)
        if record is None:
            return Work.KERNEL
        return Work.WASTED if record.accepted and record.kind != Work.ROWS else record.kind

    def _send(self, worker: str, block: int, now: float) -> None:
        if worker not in self._sent:
            return
        # A settled block is sent again if answers to it differ.
        record = self.blocks.setdefault(block, _Block(Work.KERNEL, accepted=True, settled=True))
        record.out += block not in self._sent[worker]  # it may be sent again after it was lost
        self._sent[worker][block] = now

    def _answered(self, worker: str, block: int, now: float, failed: bool) -> None:
        kind = self.kind_of(block)
        sent = self._returned(worker, block)
        if sent is None:
            return
        if failed and kind != Work.ROWS:
            kind = Work.WASTED
        start = max(sent, self._free.get(worker, sent))
        self._free[worker] = now
        self._listener.worked(worker, kind, start, now)

    def _returned(self, worker: str, block: int) -> float | None:
        """Notes that the worker has the block no more; returns when it was sent, if it was."""
        sent = self._sent.get(worker, {}).pop(block, None)
        if sent is not None and (record := self.blocks.get(block)) is not None:
            record.out -= 1
            self._forget_if_done(block, record)
        return sent

    def _settle(self, block: int) -> None:
        record = self.blocks.get(block)
        if record is not None:
            record.settled = True
            self._forget_if_done(block, record)

    def _forget_if_done(self, block: int, record: _Block) -> None:
        if record.settled and record.out <= 0:
            del self.blocks[block]

    def _leave(self, worker: str, now: float, reason: str) -> None:
        if worker not in self._sent:
            return
        announced = worker in self._draining and not self._sent[worker]
        for block in list(self._sent[worker]):
            self._returned(worker, block)
        del self._sent[worker]
        self._free.pop(worker, None)
        self._draining.discard(worker)
        self._listener.left(worker, now, reason, announced)


def _kind_of(spec: events.BlockSpec) -> Work:
    if spec.shape.startswith("vjp"):
        return Work.GRADIENT
    if spec.optional or not spec.shape.startswith("K"):
        return Work.ROWS
    return Work.KERNEL if spec.priority == MOST_URGENT else Work.EVALUATION
