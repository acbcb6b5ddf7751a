"""Which worker gets which block next: the queue, placement and duplicates (rules 3, 4, 7, 9)."""

import zlib

from kipper.server.scheduler import rules
from kipper.server.scheduler.block_times import BlockTimes
from kipper.server.scheduler.events import BlockSpec, CancelBlock, Instruction, SendBlock
from kipper.server.scheduler.ledger import BlockRecord, Lease, Ledger, WorkerRecord
from kipper.server.scheduler.rules import Counters, Policy
from kipper.server.scheduler.waiting import Waiting

MOST_URGENT = 0  # the priority of what a step waits for


class Placement:
    """The half of the scheduler that gives out blocks.

    Attributes:
        policy: as given.
        counters: what happened so far.
        ledger: workers, blocks and leases.
        waiting: blocks that no worker has, or too few.
    """

    def __init__(self, policy: Policy, counters: Counters):
        self.policy = policy
        self.counters = counters
        self.ledger = Ledger()
        self.waiting = Waiting()
        self._times = BlockTimes()
        self._resting: dict[int, None] = {}  # blocks that wait for a pause to end
        self._next_look = 0.0  # for late blocks
        self._freed: list[str] = []  # workers that ended a lease in this event
        self._all_may_find = True  # whether others too may find what they did not before
        self._out: list[Instruction] = []

    def _give_out(self, now: float) -> None:
        """Sends what can be sent."""
        if self._resting:
            self._end_pauses(now)
        if now >= self._next_look:
            self._look(now)
        if self.waiting:
            self._fill(now)
        if self.ledger.idle and self.ledger.behind and not self.waiting:
            self._take_over(now)

    # --- the queue ---------------------------------------------------------------------------

    def _queue(self, specs: tuple[BlockSpec, ...]) -> None:
        several = len(self.ledger.workers) > 1
        for spec in specs:
            verified = not spec.optional and self._is_chosen(spec.block, several)
            self.ledger.blocks[spec.block] = BlockRecord(spec, wanted=2 if verified else 1)
            preferred = self.ledger.workers.get(spec.prefers or "")
            is_there = preferred is not None and not preferred.draining
            self.waiting.add(spec, spec.prefers if is_there else None)
        self._all_may_find = True

    def _is_chosen(self, block: int, several: bool) -> bool:
        fraction = self.policy.verify_fraction
        if fraction >= 1:
            return True
        draw = zlib.crc32(b"%d:%d" % (self.policy.seed, block)) / 2**32
        if draw < fraction and not several:
            self.counters.unverified += 1
        return draw < fraction and several

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
            if block in self.waiting:
                self.waiting.remove(block)
            self._resting[block] = None
        elif block not in self.waiting:
            self.waiting.add(entry.spec, bound_to=None, first=True)
            self._all_may_find = True

    def _end_pauses(self, now: float) -> None:
        for block in [b for b in self._resting if self.ledger.blocks[b].rests_until <= now]:
            del self._resting[block]
            self._requeue(block, now)

    # --- sending -----------------------------------------------------------------------------

    def _fill(self, now: float) -> None:
        """One block a worker first, so that few blocks spread out; then a second each."""
        workers = self.ledger.workers
        if self._all_may_find:
            idle, single = list(self.ledger.idle), list(self.ledger.single)
            self._all_may_find = False
        else:
            idle = [worker for worker in self._freed if worker in self.ledger.idle]
            single = [worker for worker in self._freed if worker in self.ledger.single]
        for worker in idle:
            if not self.waiting:
                return
            self._send_one(worker, now)
        if self.waiting.most_urgent() != MOST_URGENT:
            return
        for worker in [*single, *(worker for worker in idle if len(workers[worker].out) == 1)]:
            if not self.waiting:
                return
            if self.waiting.may_have_for(worker) and not self._would_keep_waiting(worker, now):
                self._send_one(worker, now)

    def _would_keep_waiting(self, worker: str, now: float) -> bool:
        """Whether a second block had better not wait behind the one the worker computes."""
        first, lease = next(iter(self.ledger.workers[worker].out.items()))
        slow = self._times.slowness(worker) > rules.SLOW_WORKER
        return slow or self._is_late(worker, first, lease, now)

    def _send_one(self, worker: str, now: float) -> None:
        record = self.ledger.workers[worker]
        if not self._is_available(record, now) or self._is_passed_over(worker, record, now):
            return

        def may(block: int) -> bool:
            return self._may(worker, block)

        # What is less urgent must not stand between a worker and what may be queued meanwhile.
        least = MOST_URGENT if record.out else None
        block = self.waiting.choose(worker, record.held, self.ledger.holders, may, least)
        if block is None and not record.out:
            block = self.waiting.choose_bound_elsewhere(may)
        if block is not None:
            self._send(worker, block, now)

    def _send(self, worker: str, block: int, now: float) -> None:
        entry, owner = self.ledger.blocks[block], self.ledger.behind.get(block)
        self.ledger.lend(worker, block, now)
        if block in self.waiting and entry.copies_needed <= 0:
            self.waiting.remove(block)
        self.counters.sent += 1
        self._out.append(SendBlock(worker, block))
        if owner is not None and entry.more_than_wanted:
            self.counters.taken += 1
            if self.ledger.behind.get(block) == owner:
                del self.ledger.behind[block]
            self._out.append(CancelBlock(owner, block))

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
            self._all_may_find = True  # once an answer has made room
            return False
        return self._suits(worker, entry)

    def _suits(self, worker: str, entry: BlockRecord) -> bool:
        if worker in entry.out or entry.answered(worker):
            return False
        # A second try where it failed only if there is nobody else.
        return worker not in entry.failed or not self._has_others(entry)

    def _has_others(self, entry: BlockRecord) -> bool:
        """Whether there are workers that the block was not tried on."""
        return any(
            worker not in entry.failed and not entry.answered(worker)
            for worker in self.ledger.workers
        )

    # --- duplicates --------------------------------------------------------------------------

    def _take_over(self, now: float) -> None:
        """Gives idle workers what waits behind other blocks."""
        for worker in list(self.ledger.idle):
            if not self.ledger.behind:
                return
            block = next(iter(self.ledger.behind))
            swift = self._times.slowness(worker) <= rules.SLOW_WORKER
            available = self._is_available(self.ledger.workers[worker], now)
            if swift and available and block not in self._resting and self._may(worker, block):
                self._send(worker, block, now)

    def _look(self, now: float) -> None:
        """Has late blocks, and those behind them, wait once more if nothing as urgent does."""
        pause = max(rules.LOOK_SECONDS, rules.LOOK_SHARE * self._times.typical())
        self._next_look = now + pause
        urgent = self.waiting.most_urgent()
        if urgent == MOST_URGENT:
            return
        for worker, record in self.ledger.workers.items():
            if not record.out:
                continue
            first = next(iter(record.out))
            if not self._is_late(worker, first, record.out[first], now):
                continue
            for block in list(record.out):
                entry = self.ledger.blocks[block]
                if entry.accepted is not None or self._in_good_hands(block, entry, now):
                    continue
                if entry.spec.optional:
                    continue
                if urgent is not None and entry.spec.priority >= urgent:
                    continue
                if block == first and not self._may_copy(entry, record.out[first], now):
                    continue
                self.counters.copies += block == first
                entry.extra = len(entry.out)
                self._requeue(block, now)

    def _in_good_hands(self, block: int, entry: BlockRecord, now: float) -> bool:
        """Whether a copy waits already, or is somewhere in time."""
        if entry.extra >= len(entry.out):
            return True
        return len(entry.out) > 1 and not all(
            self._is_late_on(owner, block, now) for owner in entry.out
        )

    def _is_late_on(self, worker: str, block: int, now: float) -> bool:
        """Whether the block is late on a worker, or waits there behind one that is."""
        out = self.ledger.workers[worker].out
        first = block if out[block].started is not None else next(iter(out))
        return self._is_late(worker, first, out[first], now)

    def _is_late(self, worker: str, block: int, lease: Lease, now: float) -> bool:
        """Whether another worker would do better."""
        slow = self._times.slow(self.ledger.blocks[block].spec.shape)
        if slow is None or lease.started is None:
            return False
        elapsed = now - lease.started
        if self._times.slowness(worker) > rules.SLOW_WORKER:
            return elapsed > rules.SLOW_SECONDS  # another would begin and end before it ends
        return elapsed > max(rules.SLOW_SECONDS, rules.SLOW_FACTOR * slow)

    def _may_copy(self, entry: BlockRecord, lease: Lease, now: float) -> bool:
        expected = self._times.expected(entry.spec.shape) or 0.0
        if lease.started is not None and now - lease.started > rules.FROZEN_FACTOR * expected:
            return True
        return self.counters.copies < rules.FIRST_COPIES + rules.COPIES_SHARE * self.counters.sent
