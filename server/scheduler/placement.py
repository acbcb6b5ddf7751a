"""Which worker gets which block next: the queue, placement and duplicates (rules 3, 4, 7, 9)."""

import zlib

from kipper.server.scheduler import rules
from kipper.server.scheduler.block_times import BlockTimes
from kipper.server.scheduler.events import BlockSpec, CancelBlock, Instruction, SendBlock
from kipper.server.scheduler.ledger import BlockRecord, Lease, Ledger, WorkerRecord
from kipper.server.scheduler.rules import Counters, Policy
from kipper.server.scheduler.waiting import Waiting


class Placement:
    """The half of the scheduler that gives out blocks.

    Attributes:
        policy: as given.
        counters: what happened so far.
        ledger: workers, blocks and leases.
        waiting: blocks that no worker has, or too few.
    """

    def __init__(self, policy: Policy):
        self.policy = policy
        self.counters = Counters()
        self.ledger = Ledger()
        self.waiting = Waiting()
        self._times = BlockTimes()
        self._resting: dict[int, None] = {}  # blocks that wait for a pause to end
        self._next_look = 0.0  # for late blocks
        self._out: list[Instruction] = []

    def _give_out(self, now: float) -> None:
        """Sends what can be sent."""
        if self._resting:
            self._end_pauses(now)
        if self.waiting:
            self._fill(now)
        look = self.ledger.behind or now >= self._next_look
        if look and self.ledger.idle and not self.waiting:
            self._duplicate(now)

    # --- the queue ---------------------------------------------------------------------------

    def _queue(self, specs: tuple[BlockSpec, ...]) -> None:
        several = len(self.ledger.workers) > 1
        for spec in specs:
            verified = self._is_chosen(spec.block, several)
            self.ledger.blocks[spec.block] = BlockRecord(spec, wanted=2 if verified else 1)
            self._wait(spec, first=False)

    def _is_chosen(self, block: int, several: bool) -> bool:
        fraction = self.policy.verify_fraction
        if fraction >= 1:
            return True
        draw = zlib.crc32(b"%d:%d" % (self.policy.seed, block)) / 2**32
        if draw < fraction and not several:
            self.counters.unverified += 1
        return draw < fraction and several

    def _wait(self, spec: BlockSpec, first: bool) -> None:
        prefers = spec.prefers if spec.prefers in self.ledger.workers else None
        self.waiting.add(spec, prefers, first)

    def _requeue(self, block: int, now: float) -> None:
        """Sees to it that a block waits, rests or is forgotten, as its record says."""
        entry = self.ledger.blocks.get(block)
        if entry is None:
            return
        if entry.copies_needed <= 0:
            if block in self.waiting:
                self.waiting.remove(block)
            self._resting.pop(block, None)
            if entry.accepted is not None and not entry.out and not entry.disputed:
                self.ledger.forget_block(block)
        elif entry.rests_until > now:
            self._resting[block] = None
        elif block not in self.waiting:
            self._wait(entry.spec, first=True)

    def _end_pauses(self, now: float) -> None:
        for block in [b for b in self._resting if self.ledger.blocks[b].rests_until <= now]:
            del self._resting[block]
            self._requeue(block, now)

    # --- sending -----------------------------------------------------------------------------

    def _fill(self, now: float) -> None:
        """One block a worker first, so that few blocks spread out; then a second each."""
        for worker in list(self.ledger.idle):
            if not self.waiting:
                return
            self._send_one(worker, now)
        for worker in list(self.ledger.single):
            if not self.waiting:
                return
            if self._times.slowness(worker) <= rules.SLOW_WORKER:
                self._send_one(worker, now)

    def _send_one(self, worker: str, now: float) -> bool:
        record = self.ledger.workers[worker]
        if not self._is_available(record, now) or self._is_passed_over(worker, record, now):
            return False

        def may(block: int) -> bool:
            return self._may(worker, block)

        block = self.waiting.choose(worker, record.held, self.ledger.holders, may)
        if block is None and not record.out:
            block = self.waiting.choose_bound_elsewhere(may)
        if block is None:
            return False
        self._send(worker, block, now)
        return True

    def _send(self, worker: str, block: int, now: float) -> None:
        self.ledger.lend(worker, block, now)
        if block in self.waiting and self.ledger.blocks[block].copies_needed <= 0:
            self.waiting.remove(block)
        self.counters.sent += 1
        self._out.append(SendBlock(worker, block))

    def _is_available(self, record: WorkerRecord, now: float) -> bool:
        return not record.draining and record.stalled_since is None and record.rests_until <= now

    def _is_passed_over(self, worker: str, record: WorkerRecord, now: float) -> bool:
        """Whether the others would have finished all that waits before this one a single block."""
        slowness = self._times.slowness(worker)
        if slowness <= rules.SLOW_WORKER or len(self.ledger.workers) == 1:
            return False
        if slowness <= 1 + len(self.waiting) / len(self.ledger.workers):
            record.passed_over_since = None
            return False
        if record.passed_over_since is None:
            record.passed_over_since = now
        # Unless it turns out that they do not.
        typical = self._times.typical()
        return now - record.passed_over_since <= slowness * typical

    def _may(self, worker: str, block: int) -> bool:
        entry = self.ledger.blocks[block]
        if self.ledger.bytes_out and (
            self.ledger.bytes_out + entry.spec.bytes > self.policy.max_bytes_out
        ):
            return False
        if worker in entry.out or entry.answered(worker):
            return False
        # A second try where it failed only if there is nobody else.
        return worker not in entry.failed or all(w in entry.failed for w in self.ledger.workers)

    # --- duplicates --------------------------------------------------------------------------

    def _duplicate(self, now: float) -> None:
        """Gives idle workers what others have not begun, or are late with."""
        idle = [
            worker
            for worker in self.ledger.idle
            if self._is_available(self.ledger.workers[worker], now)
            and self._times.slowness(worker) <= rules.SLOW_WORKER
        ]
        while idle and self.ledger.behind:
            block, owner = next(iter(self.ledger.behind.items()))
            taker = next((worker for worker in idle if self._may(worker, block)), None)
            if taker is None:
                break
            idle.remove(taker)
            self.counters.taken += 1
            del self.ledger.behind[block]
            self._send(taker, block, now)
            self._out.append(CancelBlock(owner, block))
        if idle and now >= self._next_look:
            self._next_look = now + rules.LOOK_SECONDS
            self._copy_late(idle, now)

    def _copy_late(self, idle: list[str], now: float) -> None:
        for worker, record in self.ledger.workers.items():
            for block, lease in record.out.items():
                if lease.started is None or not self._is_late(worker, block, lease, now):
                    continue
                taker = next((other for other in idle if self._may(other, block)), None)
                if taker is not None:
                    idle.remove(taker)
                    self.counters.copies += 1
                    self._send(taker, block, now)
            if not idle:
                return

    def _is_late(self, worker: str, block: int, lease: Lease, now: float) -> bool:
        entry = self.ledger.blocks[block]
        after = self._slow_after(worker, entry)
        assert lease.started is not None
        if after is None or now - lease.started < after:
            return False
        within = rules.FIRST_COPIES + rules.COPIES_SHARE * self.counters.sent
        expected = self._times.expected(entry.spec.shape) or 0.0
        frozen = now - lease.started > rules.FROZEN_FACTOR * expected
        return frozen or self.counters.copies < within

    def _slow_after(self, worker: str, entry: BlockRecord) -> float | None:
        """Seconds of computing after which a copy is worth while; None: it never is."""
        expected = self._times.expected(entry.spec.shape)
        if expected is None or entry.accepted is not None or len(entry.out) > 1:
            return None
        if self._times.slowness(worker) > rules.SLOW_WORKER:
            return rules.SLOW_SECONDS  # another would begin and end before this one ends
        return max(rules.SLOW_SECONDS, rules.SLOW_FACTOR * expected)
