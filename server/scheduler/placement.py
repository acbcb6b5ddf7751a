"""Which worker gets which block next: the queue, placement and duplicates (rules 3, 4, 7, 9)."""

import itertools
import math
import zlib
from collections.abc import Iterator

from kipper.server.scheduler import rules
from kipper.server.scheduler.events import BlockSpec, CancelBlock, Instruction, SendBlock
from kipper.server.scheduler.ledger import BlockRecord, Lease, WorkerRecord
from kipper.server.scheduler.rules import MOST_URGENT, Policy
from kipper.server.scheduler.state import State


class Placement:
    """Queues blocks and assigns them to workers; shares its state with the scheduler."""

    def __init__(self, policy: Policy, state: State):
        self._policy = policy
        self._state = state
        self._ledger = state.ledger
        self._waiting = state.waiting
        self._out: list[Instruction] = []

    def follow(self, policy: Policy) -> None:
        """Replaces the policy."""
        self._policy = policy

    # --- the queue ---------------------------------------------------------------------------

    def queue(self, specs: tuple[BlockSpec, ...]) -> None:
        """Adds new blocks to the queue."""
        several = sum(1 for _ in itertools.islice(self._responsive(), 2)) > 1
        for spec in specs:
            verified = not spec.optional and self._is_chosen(spec.block, several)
            self._ledger.blocks[spec.block] = BlockRecord(spec, wanted=2 if verified else 1)
            preferred = self._ledger.workers.get(spec.prefers or "")
            is_present = preferred is not None and not preferred.draining
            self._waiting.add(spec, spec.prefers if is_present else None)
        self._state.reconsider_all = True

    def requeue(self, block: int, now: float) -> None:
        """Makes a block wait or rest, or forgets it, according to its record."""
        entry = self._ledger.blocks.get(block)
        if entry is None:
            return
        if entry.copies_needed <= 0:
            if block in self._waiting:
                self._waiting.remove(block)
            self._state.resting.pop(block, None)
            if entry.accepted is not None and not entry.out and not entry.disputed:
                self._ledger.forget_block(block)
        elif entry.rests_until > now:
            if block in self._waiting:
                self._waiting.remove(block)
            self._state.resting[block] = None
        elif block not in self._waiting:
            self._waiting.add(entry.spec, bound_to=None, first=True)
            self._state.reconsider_all = True

    def _is_chosen(self, block: int, several: bool) -> bool:
        """Whether the block is one of those to be verified."""
        fraction = self._policy.verify_fraction
        if fraction >= 1:
            return True
        draw = zlib.crc32(b"%d:%d" % (self._policy.seed, block)) / 2**32
        if draw < fraction and not several:
            self._state.counters.unverified += 1
        return draw < fraction and several

    # --- sending -----------------------------------------------------------------------------

    def assign(self, freed: list[str], now: float) -> list[Instruction]:
        """Sends all blocks that can be sent; `freed` are the workers that have just answered."""
        self._out = []
        resting = self._state.resting
        for block in [b for b in resting if self._ledger.blocks[b].rests_until <= now]:
            del resting[block]
            self.requeue(block, now)
        if now >= self._state.next_late_check:
            self._requeue_late_blocks(now)
        if self._waiting:
            self._fill(freed, now)
        if self._ledger.idle and self._ledger.behind:
            self._take_over(now)
        return self._out

    def check_soon(self, now: float) -> None:
        """Looks for late blocks after a moment, not only when the first that is out may be late."""
        pause = max(rules.LATE_CHECK_SECONDS, rules.LATE_CHECK_SHARE * self._state.times.typical)
        self._state.next_late_check = min(self._state.next_late_check, now + pause)

    def suits(self, worker: str, entry: BlockRecord) -> bool:
        """Whether the worker may be given the block, apart from the limit on bytes."""
        if worker in entry.out or entry.answered(worker):
            return False
        if not entry.failed:
            return True
        # A block does not wait for one worker that does not answer.
        hoped_for = [other for other in self._responsive() if not entry.answered(other)]
        if worker in entry.failed:  # a second attempt, if no other worker is left to try it
            return all(other in entry.failed for other in hoped_for)
        if self._is_proven(worker, entry):
            return True
        return not any(o not in entry.failed and self._is_proven(o, entry) for o in hoped_for)

    def expects_answer(self, entry: BlockRecord) -> bool:
        """Whether a worker that is not frozen has the block, or could be given it."""
        if not entry.out <= self._ledger.frozen:
            return True
        return any(self.suits(worker, entry) for worker in self._responsive())

    def has_untried_judge(self, entry: BlockRecord) -> bool:
        """Whether an untried worker is left whose failure would count against the block.

        That is a proven worker, or any worker if no proven one could compute the block.
        """
        able = list(self._able(entry))
        proven = [worker for worker in able if self._is_proven(worker, entry)]
        return any(worker not in entry.failed for worker in proven or able)

    def _is_proven(self, worker: str, entry: BlockRecord) -> bool:
        forgiven = entry.times_failed.get(worker, 0)
        return self._state.health.is_proven(worker, entry.spec.kind, forgiven)

    def _able(self, entry: BlockRecord) -> Iterator[str]:
        for worker, record in self._ledger.workers.items():
            gone = record.draining or record.stalled_since is not None
            if not gone and not entry.answered(worker):
                yield worker

    def _responsive(self) -> Iterator[str]:
        """The workers that may answer another block soon."""
        for worker, record in self._ledger.workers.items():
            gone = record.draining or record.stalled_since is not None
            if not gone and worker not in self._ledger.frozen:
                yield worker

    def _fill(self, freed: list[str], now: float) -> None:
        """Gives each worker one block first, so that few blocks spread out; then a second one."""
        workers = self._ledger.workers
        if self._state.reconsider_all:
            idle, single = list(self._ledger.idle), list(self._ledger.single)
            self._state.reconsider_all = False
        else:
            idle = [worker for worker in freed if worker in self._ledger.idle]
            single = [worker for worker in freed if worker in self._ledger.single]
        for worker in idle:
            if not self._waiting:
                return
            self._send_one(worker, now)
        if self._waiting.most_urgent() != MOST_URGENT:
            return
        for worker in [*single, *(worker for worker in idle if len(workers[worker].out) == 1)]:
            if not self._waiting:
                return
            if self._waiting.has_any_for(worker) and not self._would_delay(worker, now):
                self._send_one(worker, now)

    def _would_delay(self, worker: str, now: float) -> bool:
        """Whether a second block would wait too long behind the worker's first."""
        record = self._ledger.workers[worker]
        first, lease = next(iter(record.out.items()))
        return record.pace.slowness > rules.SLOW_WORKER or self._is_late(record, first, lease, now)

    def _send_one(self, worker: str, now: float) -> None:
        record = self._ledger.workers[worker]
        if not self._is_available(record, now) or self._is_passed_over(record, now):
            return

        def may(block: int) -> bool:
            return self._may(worker, block)

        # A less urgent block must not stand between a worker and urgent ones queued meanwhile.
        least = MOST_URGENT if record.out else None
        block = self._waiting.choose(worker, record.held, self._ledger.holders, may, least)
        if block is None and not record.out:
            block = self._waiting.choose_bound_elsewhere(may)
        if block is not None:
            self._send(worker, block, now)

    def _send(self, worker: str, block: int, now: float) -> None:
        entry, owner = self._ledger.blocks[block], self._ledger.behind.get(block)
        self._ledger.lend(worker, block, now)
        if block in self._waiting and entry.copies_needed <= 0:
            self._waiting.remove(block)
        self._state.counters.sent += 1
        self._out.append(SendBlock(worker, block))
        if owner is not None and entry.more_than_wanted:
            self._state.counters.taken += 1
            if self._ledger.behind.get(block) == owner:
                del self._ledger.behind[block]
            self._ledger.cancel(owner, block)
            self._out.append(CancelBlock(owner, block))

    def _is_available(self, record: WorkerRecord, now: float) -> bool:
        return not record.draining and record.stalled_since is None and record.rests_until <= now

    def _is_passed_over(self, record: WorkerRecord, now: float) -> bool:
        """Whether the others would finish all waiting blocks before this worker finishes one."""
        slowness = record.pace.slowness
        num_workers = len(self._ledger.workers)
        if slowness <= rules.SLOW_WORKER or num_workers == 1:
            return False
        if slowness <= 1 + len(self._waiting) / num_workers:
            record.passed_over_since = None
            return False
        if record.passed_over_since is None:
            record.passed_over_since = now
        # It gets a block nevertheless if the others turn out not to finish by then.
        return now - record.passed_over_since <= slowness * self._state.times.typical

    def _may(self, worker: str, block: int) -> bool:
        entry = self._ledger.blocks[block]
        if not self._fits(entry.spec.bytes):
            self._state.reconsider_all = True  # the next answer makes room
            return False
        return self.suits(worker, entry)

    def _fits(self, size: int) -> bool:
        """Whether a block of this size may be sent as well."""
        room = self._policy.max_bytes_out - size
        if self._ledger.bytes_out <= max(room, 0):
            return True
        return bool(self._ledger.frozen) and self._ledger.bytes_awaited <= max(room, 0)

    # --- duplicates --------------------------------------------------------------------------

    def _take_over(self, now: float) -> None:
        """Gives idle workers the blocks that wait behind others."""
        for worker in list(self._ledger.idle):
            if not self._ledger.behind:
                return
            block = next(iter(self._ledger.behind))
            record = self._ledger.workers[worker]
            able = record.pace.slowness <= rules.SLOW_WORKER and self._is_available(record, now)
            if not able or block in self._state.resting or not self._may(worker, block):
                continue
            if self._would_end_sooner(worker, block, now):
                self._send(worker, block, now)

    def _would_end_sooner(self, worker: str, block: int, now: float) -> bool:
        """Whether a worker would end a block before its owner, behind whose first block it waits.

        An owner that kept the block's residuals needs not compute its kernel again.
        """
        spec, owner = self._ledger.blocks[block].spec, self._ledger.behind[block]
        expected = self._state.times.expected
        alone, kernel = expected.get(spec.shape), expected.get(spec.shape_of_kernel)
        if spec.prefers != owner or alone is None or kernel is None:
            return True
        theirs, mine = (self._ledger.workers[name] for name in (owner, worker))
        first, lease = next(iter(theirs.out.items()))
        before = expected.get(self._ledger.blocks[first].spec.shape, alone)
        ran = 0.0 if lease.started is None else now - lease.started
        left = max(0.0, theirs.pace.slowness * before - ran)
        return mine.pace.slowness * (alone + kernel) < left + theirs.pace.slowness * alone

    def _requeue_late_blocks(self, now: float) -> None:
        """Queues copies of late blocks and of those behind them, unless as urgent ones wait."""
        self._state.next_late_check = now + rules.CHECK_SECONDS
        records = self._ledger.workers.values()
        if self._waiting and any(record.passed_over_since is not None for record in records):
            self.check_soon(now)
        urgent = self._most_urgent()
        if urgent == MOST_URGENT:
            return
        for record in records:
            if not record.out:
                continue
            first = next(iter(record.out))
            if not self._is_late(record, first, record.out[first], now):
                late_at = self._late_at(record, first, record.out[first])
                self._state.next_late_check = min(self._state.next_late_check, late_at)
                continue
            self.check_soon(now)
            for block in list(record.out):
                entry = self._ledger.blocks[block]
                if not entry.needs_answer or self._has_timely_copy(block, entry, now):
                    continue
                if entry.spec.optional:
                    continue
                if urgent is not None and entry.spec.priority >= urgent:
                    continue
                if block == first and not self._may_copy(entry, record.out[first], now):
                    continue
                self._state.counters.copies += block == first
                entry.extra = len(entry.out)
                self.requeue(block, now)

    def _most_urgent(self) -> int | None:
        """The priority of the most urgent waiting block that some worker could be given."""
        for priority in sorted(self._waiting.levels):
            for block in self._waiting.levels[priority].blocks:
                entry = self._ledger.blocks[block]
                is_fresh = not (entry.out or entry.groups or entry.failed)
                if is_fresh or any(self.suits(worker, entry) for worker in self._responsive()):
                    return priority
        return None

    def _has_timely_copy(self, block: int, entry: BlockRecord, now: float) -> bool:
        """Whether a copy is already waiting, or is out at a worker that is not late with it."""
        if entry.extra >= len(entry.out):
            return True
        return len(entry.out) > 1 and not all(
            self._is_late_on(owner, block, now) for owner in entry.out
        )

    def _is_late_on(self, worker: str, block: int, now: float) -> bool:
        """Whether the block is late on a worker, or waits there behind a late one."""
        record = self._ledger.workers[worker]
        first = block if record.out[block].started is not None else next(iter(record.out))
        return self._is_late(record, first, record.out[first], now)

    def _is_late(self, record: WorkerRecord, block: int, lease: Lease, now: float) -> bool:
        """Whether another worker would probably finish the block sooner."""
        return now > self._late_at(record, block, lease)

    def _late_at(self, record: WorkerRecord, block: int, lease: Lease) -> float:
        """The time when a block becomes late; infinite if that is not known."""
        slow = self._state.times.slow.get(self._ledger.blocks[block].spec.shape)
        if slow is None or lease.started is None:
            return math.inf
        if record.pace.slowness > rules.SLOW_WORKER:
            return lease.started + rules.SLOW_SECONDS
        return lease.started + max(rules.SLOW_SECONDS, rules.SLOW_FACTOR * slow)

    def _may_copy(self, entry: BlockRecord, lease: Lease, now: float) -> bool:
        expected = self._state.times.expected.get(entry.spec.shape, 0.0)
        if lease.started is not None and now - lease.started > rules.FROZEN_FACTOR * expected:
            return True
        counters = self._state.counters
        return counters.copies < rules.FIRST_COPIES + rules.COPIES_SHARE * counters.sent
