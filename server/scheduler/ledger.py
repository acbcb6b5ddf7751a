"""Which worker has which block: bookkeeping without policy, in constant time per change."""

import dataclasses

from kipper.server.scheduler.block_times import Pace
from kipper.server.scheduler.events import BlockSpec

# Pieces remembered per worker: a hint for placement, not a guarantee.
_PIECES_REMEMBERED = 64


@dataclasses.dataclass(slots=True)
class Lease:
    """A block that is out at a worker.

    Attributes:
        sent: time when it was sent.
        started: time when the worker could begin it, having answered all earlier blocks; None
            while it waits behind another block.
    """

    sent: float
    started: float | None


@dataclasses.dataclass(slots=True)
class WorkerRecord:
    """A worker that is present.

    Attributes:
        out: its leases, the oldest first; it computes the first one.
        held: pieces of rows sent to it with their bytes, the newest last.
        cancelled: blocks that it was told not to begin. If the lease of such a block ended before
            the cancellation arrived, the block may come again, and is then refused once.
        stalled_since: when it missed a deadline; None if it has answered since.
        lost_in_a_row: messages lost since the last answer.
        rests_until: it gets no block before this time, because a message was lost.
        passed_over_since: since when it has got no block because it is slow.
        pace: how fast it computes.
    """

    out: dict[int, Lease] = dataclasses.field(default_factory=dict)
    held: dict[str, int] = dataclasses.field(default_factory=dict)
    cancelled: set[int] = dataclasses.field(default_factory=set)
    draining: bool = False
    stalled_since: float | None = None
    lost_in_a_row: int = 0
    rests_until: float = 0.0
    passed_over_since: float | None = None
    pace: Pace = dataclasses.field(default_factory=Pace)


@dataclasses.dataclass(slots=True)
class BlockRecord:
    """A block that the scheduler still has to follow.

    Attributes:
        wanted: how many workers' answers must agree.
        out: workers that have it.
        groups: workers that answered, grouped by equal answers.
        failed: workers it failed on, with the reason.
        times_failed: how often it failed on each of them.
        failed_otherwise: those of them that failed in other ways than by numbers that are not
            finite.
        extra: copies sent or to be sent because it is late.
        failures: number of failures.
        losses: number of lost requests and answers.
        suspect_losses: those on workers that lose nothing else.
        accepted: the worker whose answer was accepted; "" if it was withdrawn; None before.
        unconfirmed: whether the answer was accepted before the wanted second one came.
        withdrawn: whether its result is not needed; it is then not sent any more.
        rests_until: it is not sent before this time.
        answered_at: when the answers came that another one must confirm or decide about.
    """

    spec: BlockSpec
    wanted: int = 1
    out: set[str] = dataclasses.field(default_factory=set)
    groups: list[list[str]] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    times_failed: dict[str, int] = dataclasses.field(default_factory=dict)
    failed_otherwise: set[str] = dataclasses.field(default_factory=set)
    extra: int = 0
    failures: int = 0
    losses: int = 0
    suspect_losses: int = 0
    accepted: str | None = None
    unconfirmed: bool = False
    withdrawn: bool = False
    rests_until: float = 0.0
    answered_at: float | None = None

    @property
    def most_agreeing(self) -> int:
        """The size of the largest group of equal answers."""
        return max((len(group) for group in self.groups), default=0)

    @property
    def needs_answer(self) -> bool:
        """Whether another answer is wanted: as its result, to confirm others, or to decide."""
        return not self.withdrawn and (
            self.accepted is None or self.unconfirmed or len(self.groups) > 1
        )

    @property
    def copies_needed(self) -> int:
        """How many more workers should get it."""
        if not self.needs_answer:
            return 0
        return self.wanted + self.extra - self.most_agreeing - len(self.out)

    @property
    def more_than_wanted(self) -> bool:
        """Whether more workers have it than would be needed if none were late."""
        return self.most_agreeing + len(self.out) > self.wanted

    @property
    def disputed(self) -> bool:
        """Whether answers differ and no two agree."""
        return not self.withdrawn and len(self.groups) > 1 and self.most_agreeing < 2

    @property
    def unsettled(self) -> bool:
        """Whether there are answers but none can be trusted yet."""
        return bool(self.groups) and (self.accepted is None or self.unconfirmed or self.disputed)

    def answered(self, worker: str) -> bool:
        """Whether the worker has answered it."""
        return any(worker in group for group in self.groups)


@dataclasses.dataclass
class Ledger:
    """Present workers, unfinished blocks, and the leases between them.

    Only the ledger knows which blocks each worker has and since when, and how fast it computes.

    Attributes:
        holders: how many workers hold each piece.
        bytes_out: bytes of all blocks that are out, each copy counted.
        frozen: workers whose first block takes so long that nothing waits for them.
        idle: workers without a block, the longest idle first.
        single: workers with one block.
        behind: blocks that wait behind another block, with their worker.
        num_accepted: number of accepted blocks, kept because copies of them are still out.
    """

    workers: dict[str, WorkerRecord] = dataclasses.field(default_factory=dict)
    blocks: dict[int, BlockRecord] = dataclasses.field(default_factory=dict)
    holders: dict[str, int] = dataclasses.field(default_factory=dict)
    bytes_out: int = 0
    frozen: set[str] = dataclasses.field(default_factory=set)
    idle: dict[str, None] = dataclasses.field(default_factory=dict)
    single: dict[str, None] = dataclasses.field(default_factory=dict)
    behind: dict[int, str] = dataclasses.field(default_factory=dict)
    num_accepted: int = 0

    def add_worker(self, worker: str) -> None:
        """Adds an idle worker that holds nothing."""
        self.workers[worker] = WorkerRecord()
        self.idle[worker] = None

    def remove_worker(self, worker: str) -> WorkerRecord:
        """Removes a worker and ends its leases; returns its record with the leases it had."""
        record = self.workers[worker]
        leases = dict(record.out)
        for block in reversed(leases):  # last first, so that ending one does not start the next
            self.release(worker, block, 0.0)
        self.forget_held(worker)
        del self.workers[worker], self.idle[worker]
        self.frozen.discard(worker)
        record.out = leases
        return record

    def lend(self, worker: str, block: int, now: float) -> None:
        """Records that the block was sent to the worker."""
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
        entry.extra = 0  # whether another worker is late with it is decided again
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

    def accept(self, block: int, worker: str, unconfirmed: bool = False) -> None:
        """Records whose answer was accepted, and whether a second one is still wanted."""
        self.blocks[block].accepted = worker
        self.blocks[block].unconfirmed = unconfirmed
        self.num_accepted += 1
        if not unconfirmed:
            self.settle(block)

    def settle(self, block: int) -> None:
        """Records that no further answer to an accepted block is wanted."""
        self.blocks[block].unconfirmed = False
        self.behind.pop(block, None)  # no other worker needs to take it over

    def withdraw(self, block: int) -> None:
        """Records that no answer, or no further answer, is needed."""
        entry = self.blocks[block]
        if entry.accepted is None:
            self.accept(block, "")
        entry.withdrawn = True
        self.settle(block)

    @property
    def bytes_awaited(self) -> int:
        """`bytes_out` without the blocks of frozen workers."""
        frozen = (block for worker in self.frozen for block in self.workers[worker].out)
        return self.bytes_out - sum(self.blocks[block].spec.bytes for block in frozen)

    def forget_block(self, block: int) -> None:
        """Removes a block that is finished and not out."""
        if self.blocks.pop(block).accepted is not None:
            self.num_accepted -= 1

    def forget_held(self, worker: str) -> None:
        """Records that the worker holds no known pieces."""
        held = self.workers[worker].held
        for piece in held:
            self._drop_holder(piece)
        held.clear()

    def cancel(self, worker: str, block: int) -> None:
        """Records that the worker was told not to begin the block."""
        cancelled = self.workers[worker].cancelled
        cancelled.intersection_update(self.blocks)
        cancelled.add(block)

    def take_cancellation(self, worker: str, block: int) -> bool:
        """Whether the worker was told not to begin the block and has not refused it since."""
        record = self.workers.get(worker)
        if record is None or block not in record.cancelled:
            return False
        record.cancelled.remove(block)
        return True

    def _file(self, worker: str, record: WorkerRecord) -> None:
        """Lists a worker by its number of blocks."""
        for number, listed in enumerate((self.idle, self.single)):
            if len(record.out) == number:
                listed[worker] = None
            else:
                listed.pop(worker, None)

    def _hold(self, record: WorkerRecord, spec: BlockSpec) -> None:
        held = record.held
        for piece, size in spec.pieces:
            if piece in held:
                del held[piece]  # to be added last
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
