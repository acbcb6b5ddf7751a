"""Who worked at what and when, out of the scheduler's events: of a run under way, or of its log."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from kipper.server.scheduler import events
from kipper.server.scheduler.events import Event, Instruction
from kipper.server.scheduler.ledger import Ledger
from kipper.server.scheduler.rules import MOST_URGENT

# What a worker's time goes into.
KINDS = range(5)
KERNEL, GRADIENT, EVALUATION, ROWS, IN_VAIN = KINDS


class Onlooker(Protocol):
    """Whoever is told by a `Follower`. Times are seconds of the scheduler's clock."""

    def came(self, worker: str, now: float) -> None:
        """A worker is there and gets blocks."""

    def left(self, worker: str, now: float, reason: str, in_peace: bool) -> None:
        """It is gone; `in_peace`: it had said so, and nothing was out at it."""

    def spent(self, worker: str, kind: int, start: float, stop: float) -> None:
        """It answered a block, on which it spent that time."""


@dataclasses.dataclass(slots=True)
class _Block:
    """A block that is queued or out.

    Attributes:
        out: how many workers have it.
        settled: whether it has its result, or nobody waits for one.
    """

    kind: int
    out: int = 0
    accepted: bool = False
    settled: bool = False


class Follower:
    """Follows events, which say in order what was sent, answered and used.

    A worker answers the blocks it has one by one, so it works at a block from when it was sent, or
    from its last answer, whichever is later. Blocks that were taken back, or that were lost on the
    way, count as no work. Blocks are forgotten once they are settled and out nowhere.
    """

    def __init__(self, onlooker: Onlooker):
        self._onlooker = onlooker
        self.blocks: dict[int, _Block] = {}
        self._sent: dict[str, dict[int, float]] = {}  # of each worker that is there
        self._free: dict[str, float] = {}
        self._draining: set[str] = set()

    def take(self, now: float, event: Event, then: Sequence[Instruction]) -> None:
        """An event, when it happened, and the instructions that followed."""
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
                self._leave(worker, now, "it came again")
                self._sent[worker], self._free[worker] = {}, now
                self._onlooker.came(worker, now)
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
                case events.DropWorker(worker, reason):
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

    def kind_of(self, block: int) -> int:
        """What a block that is out is for."""
        record = self.blocks.get(block)
        if record is None:
            return KERNEL
        return IN_VAIN if record.accepted and record.kind != ROWS else record.kind

    def _send(self, worker: str, block: int, now: float) -> None:
        if worker not in self._sent:
            return
        # One that is settled may be wanted once more, because answers to it differ.
        record = self.blocks.setdefault(block, _Block(KERNEL, accepted=True, settled=True))
        record.out += block not in self._sent[worker]  # it may be sent again where it got lost
        self._sent[worker][block] = now

    def _answered(self, worker: str, block: int, now: float, failed: bool) -> None:
        kind = self.kind_of(block)
        sent = self._returned(worker, block)
        if sent is None:
            return
        if failed and kind != ROWS:
            kind = IN_VAIN
        start = max(sent, self._free.get(worker, sent))
        self._free[worker] = now
        self._onlooker.spent(worker, kind, start, now)

    def _returned(self, worker: str, block: int) -> float | None:
        """Ends the block's stay at the worker; returns when it was sent, None if it was not."""
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
        in_peace = worker in self._draining and not self._sent[worker]
        for block in list(self._sent[worker]):
            self._returned(worker, block)
        del self._sent[worker]
        self._free.pop(worker, None)
        self._draining.discard(worker)
        self._onlooker.left(worker, now, reason, in_peace)


def _kind_of(spec: events.BlockSpec) -> int:
    if spec.shape.startswith("vjp"):
        return GRADIENT
    if spec.optional or not spec.shape.startswith("K"):
        return ROWS
    return KERNEL if spec.priority == MOST_URGENT else EVALUATION
