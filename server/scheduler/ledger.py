"""Which worker has which block: bookkeeping without policy, in constant time per change."""

import dataclasses

from kipper.server.scheduler.events import BlockSpec

# Pieces that a worker is remembered to hold: a hint for placement, not a promise.
_PIECES_REMEMBERED = 64


@dataclasses.dataclass(slots=True)
class Lease:
    """A block that is out at a worker.

    Attributes:
        sent: when.
        started: when the worker could begin it, having answered what was sent before; None: it
            has something else to do first.
    """

    sent: float
    started: float | None


@dataclasses.dataclass(slots=True)
class WorkerRecord:
    """A worker that is there.

    Attributes:
        out: its leases, the oldest first; the first is the one it computes.
        held: pieces of rows sent to it, the newest last, with their bytes.
        stalled_since: since when it has been silent beyond a deadline; None: it has not.
        lost_in_a_row: questions or answers of it that got lost since the last that did not.
        rests_until: it gets nothing before, because something got lost.
        passed_over_since: since when it has got nothing for being slow.
    """

    out: dict[int, Lease] = dataclasses.field(default_factory=dict)
    held: dict[str, int] = dataclasses.field(default_factory=dict)
    draining: bool = False
    stalled_since: float | None = None
    lost_in_a_row: int = 0
    rests_until: float = 0.0
    passed_over_since: float | None = None


@dataclasses.dataclass(slots=True)
class BlockRecord:
    """A block that is not done with.

    Attributes:
        wanted: how many workers' answers must agree.
        out: workers that have it.
        groups: workers by what they answered; those of a group agree.
        failed: workers it failed on, with the reason.
        extra: copies sent or to be sent because one is late.
        failures: how often.
        losses: how often question or answer got lost on the way.
        numerical: whether it never failed but by what was computed.
        accepted: whose answer was used; None: none yet; "": nobody's, it was withdrawn.
        withdrawn: nobody waits for it, and it is sent nowhere.
        rests_until: it is sent nowhere before.
        answered_at: when the first answer came that needs another to agree.
    """

    spec: BlockSpec
    wanted: int = 1
    out: set[str] = dataclasses.field(default_factory=set)
    groups: list[list[str]] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    extra: int = 0
    failures: int = 0
    losses: int = 0
    numerical: bool = True
    accepted: str | None = None
    withdrawn: bool = False
    rests_until: float = 0.0
    answered_at: float | None = None

    @property
    def most_agreeing(self) -> int:
        """How many workers at the most have answered the same."""
        return max((len(group) for group in self.groups), default=0)

    @property
    def copies_needed(self) -> int:
        """How many more workers should have it than do."""
        if self.withdrawn or (self.accepted is not None and len(self.groups) < 2):
            return 0
        return self.wanted + self.extra - self.most_agreeing - len(self.out)

    @property
    def more_than_wanted(self) -> bool:
        """Whether more workers have it than would do, were all in time."""
        return self.most_agreeing + len(self.out) > self.wanted

    @property
    def disputed(self) -> bool:
        """Whether answers differ and it is not known which is right."""
        return not self.withdrawn and len(self.groups) > 1 and self.most_agreeing < 2

    @property
    def unsettled(self) -> bool:
        """Whether what was answered is not believed yet."""
        return bool(self.groups) and (self.accepted is None or self.disputed)

    def answered(self, worker: str) -> bool:
        """Whether the worker has answered it."""
        return any(worker in group for group in self.groups)


class Ledger:
    """Workers, blocks, and the leases between them.

    Attributes:
        holders: how many workers hold each piece.
        bytes_out: of the blocks out, each copy counted.
        idle: workers with nothing to do, the longest idle first.
        single: workers with one block.
        behind: blocks that wait on a worker behind another, with the worker.
        num_accepted: blocks kept only because copies of them are still out.
    """

    def __init__(self) -> None:
        self.workers: dict[str, WorkerRecord] = {}
        self.blocks: dict[int, BlockRecord] = {}
        self.holders: dict[str, int] = {}
        self.bytes_out = 0
        self.idle: dict[str, None] = {}
        self.single: dict[str, None] = {}
        self.behind: dict[int, str] = {}
        self.num_accepted = 0

    def add_worker(self, worker: str) -> None:
        """A worker, idle, that holds nothing."""
        self.workers[worker] = WorkerRecord()
        self.idle[worker] = None

    def remove_worker(self, worker: str) -> WorkerRecord:
        """Forgets a worker; returns its record with its leases, which are ended."""
        record = self.workers[worker]
        leases = dict(record.out)
        for block in reversed(leases):  # so that none is started by the end of that before it
            self.release(worker, block, 0.0)
        self.forget_held(worker)
        del self.workers[worker], self.idle[worker]
        record.out = leases
        return record

    def lend(self, worker: str, block: int, now: float) -> None:
        """The block is out at the worker from now on."""
        record, entry = self.workers[worker], self.blocks[block]
        if record.out:
            record.out[block] = Lease(now, None)
            self.behind[block] = worker
        else:
            record.out[block] = Lease(now, now)
        self._file(worker, record)
        entry.out.add(worker)
        self.bytes_out += entry.spec.bytes
        self._hold(record, entry.spec)

    def release(self, worker: str, block: int, now: float) -> Lease | None:
        """Ends a lease and starts the worker's next; returns the lease, None if there was none."""
        record = self.workers.get(worker)
        lease = record.out.pop(block, None) if record is not None else None
        if record is None or lease is None:
            return None
        entry = self.blocks[block]
        entry.out.discard(worker)
        entry.extra = 0  # whoever is left has it in time or is late once more
        self.bytes_out -= entry.spec.bytes
        if self.behind.get(block) == worker:
            del self.behind[block]
        self._file(worker, record)
        if record.out:
            following, next_lease = next(iter(record.out.items()))
            if next_lease.started is None:
                next_lease.started = now
                if self.behind.get(following) == worker:
                    del self.behind[following]
        return lease

    def accept(self, block: int, worker: str) -> None:
        """The block has its result."""
        self.blocks[block].accepted = worker
        self.num_accepted += 1
        self.behind.pop(block, None)  # nobody need take it

    def withdraw(self, block: int) -> None:
        """The block needs no result, or no other one."""
        entry = self.blocks[block]
        if entry.accepted is None:
            self.accept(block, "")
        entry.withdrawn = True
        self.behind.pop(block, None)

    def forget_block(self, block: int) -> None:
        """The block is done with, and out nowhere."""
        if self.blocks.pop(block).accepted is not None:
            self.num_accepted -= 1

    def forget_held(self, worker: str) -> None:
        """The worker holds nothing that is known."""
        held = self.workers[worker].held
        for piece in held:
            self._drop_holder(piece)
        held.clear()

    def _file(self, worker: str, record: WorkerRecord) -> None:
        """Lists a worker by how much it has to do."""
        for number, listed in enumerate((self.idle, self.single)):
            if len(record.out) == number:
                listed[worker] = None
            else:
                listed.pop(worker, None)

    def _hold(self, record: WorkerRecord, spec: BlockSpec) -> None:
        held = record.held
        for piece, size in spec.pieces:
            if piece in held:
                del held[piece]  # to be put last
            else:
                self.holders[piece] = self.holders.get(piece, 0) + 1
            held[piece] = size
        while len(held) > _PIECES_REMEMBERED:
            oldest = next(iter(held))
            del held[oldest]
            self._drop_holder(oldest)

    def _drop_holder(self, piece: str) -> None:
        if self.holders[piece] == 1:
            del self.holders[piece]
        else:
            self.holders[piece] -= 1
