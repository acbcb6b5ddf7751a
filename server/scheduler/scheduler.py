"""Which worker gets which block, and what follows when one is slow, dies or lies: pure logic.

The rules are in `rules.py`. Events come in with the time they happened, instructions go out.
"""

import math

from kipper.server.scheduler import events, rules
from kipper.server.scheduler.events import (
    Abort,
    AcceptAnswer,
    BlockFailed,
    BlockFinished,
    BlocksQueued,
    BlocksWithdrawn,
    CancelBlock,
    DropWorker,
    Event,
    ForgetRows,
    Heartbeat,
    Instruction,
    QuarantineBlock,
    Tick,
    WorkerDraining,
    WorkerJoined,
    WorkerLeft,
)
from kipper.server.scheduler.ledger import BlockRecord, WorkerRecord
from kipper.server.scheduler.placement import Placement
from kipper.server.scheduler.rules import Counters, Policy


class Scheduler(Placement):
    """Turns events into instructions; see the rules in rules.py."""

    def __init__(self, policy: Policy, counters: Counters | None = None):
        super().__init__(policy, counters or Counters())
        self._unsettled: dict[int, None] = {}  # answered, and in want of another answer
        self._next_check = 0.0
        self._clock: float | None = None
        self._deserted_since: float | None = None
        self._last_loss = -math.inf  # of a worker that did not take its leave
        self._last_departure = "none has come"

    @property
    def num_unfinished(self) -> int:
        """Blocks without a result."""
        return len(self.ledger.blocks) - self.ledger.num_accepted

    @property
    def capacity(self) -> int:
        """How many blocks may be out at once, were every worker free."""
        return rules.WINDOW * max(1, len(self.ledger.workers))

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """What to do after `event`, which happened at `now` (seconds, any monotonic origin)."""
        self._account(now)
        self._out = []
        self._freed = []
        self._apply(event, now)
        self._give_out(now)
        return self._out

    def wake_in(self, now: float) -> float:
        """Seconds after which a `Tick` may have consequences, at most 1."""
        soonest = 1.0
        for block in self._resting:
            soonest = min(soonest, self.ledger.blocks[block].rests_until - now)
        if self.waiting:
            for worker in self.ledger.idle:
                rest = self.ledger.workers[worker].rests_until - now
                soonest = min(soonest, rest) if rest > 0 else soonest
        if self.ledger.blocks:
            soonest = min(soonest, self._next_look - now)
        return max(soonest, rules.LOOK_SECONDS)

    def _apply(self, event: Event, now: float) -> None:
        match event:
            case BlockFinished(worker, block, agrees):
                self._finish(worker, block, agrees, now)
            case BlocksQueued(specs):
                self._queue(specs)
            case BlockFailed(worker, block, kind, message):
                self._fail(worker, block, kind, message, now)
            case WorkerJoined(worker):
                if worker in self.ledger.workers:
                    self._lose(worker, "it came again", now)
                self.ledger.add_worker(worker)
                self._all_may_find = True
                self._deserted_since = None
            case WorkerLeft(worker, reason):
                self._lose(worker, reason, now)
            case WorkerDraining(worker):
                if worker in self.ledger.workers:
                    self.ledger.workers[worker].draining = True
                    self.waiting.unbind(worker)
                    self._all_may_find = True
            case BlocksWithdrawn(blocks):
                for block in blocks:
                    self._withdraw(block)
            case Heartbeat():
                pass
            case Tick():
                self._all_may_find = True  # pauses end, and patience with the slow
                if now >= self._next_check:
                    self._next_check = now + rules.CHECK_SECONDS
                    self._pass_deadlines(now)
                    self._lose_patience(now)

    def _account(self, now: float) -> None:
        if self._clock is not None:
            elapsed = max(0.0, now - self._clock)
            present = len(self.ledger.workers)
            self.counters.worker_seconds += elapsed * present
            self.counters.busy_seconds += elapsed * (present - len(self.ledger.idle))
        self._clock = now

    # --- answers -----------------------------------------------------------------------------

    def _finish(self, worker: str, block: int, agrees: tuple[str, ...], now: float) -> None:
        entry = self.ledger.blocks.get(block)
        lease = self.ledger.release(worker, block, now)
        self._answered(worker)
        if entry is None:
            return
        # How long an optional block takes depends on what its worker holds already.
        if lease is not None and lease.started is not None and not entry.spec.optional:
            self._times.note(worker, entry.spec.shape, now - lease.started)
        if entry.withdrawn or entry.answered(worker):
            self._requeue(block, now)
            return
        if entry.failed:
            self._all_may_find = True  # who failed it may be the only one left to try it
        group = next((g for g in entry.groups if any(other in g for other in agrees)), None)
        if group is None:
            entry.groups.append([worker])
        else:
            group.append(worker)
        self._weigh(block, entry, now)
        self._requeue(block, now)

    def _answered(self, worker: str) -> None:
        """Notes that an answer came."""
        self._freed.append(worker)
        record = self.ledger.workers.get(worker)
        if record is not None:
            record.stalled_since = None
            record.lost_in_a_row = 0

    def _weigh(self, block: int, entry: BlockRecord, now: float) -> None:
        """Accepts an answer that is believed, and drops who is outvoted."""
        groups = entry.groups
        largest = max(groups, key=len)
        if entry.accepted is None and len(groups) == 1 and len(largest) >= entry.wanted:
            self._accept(block, entry, largest[0])
        elif entry.answered_at is None and (entry.accepted is None or len(groups) > 1):
            entry.answered_at = now
            self._unsettled[block] = None
        if len(groups) > 1:
            entry.wanted = 2
            if len(largest) >= 2:
                self._judge(block, entry, largest, now)
            elif len(groups) > 2:
                names = ", ".join(sorted(group[0] for group in groups))
                self._abort(f"workers {names} computed as many different answers to one block")

    def _judge(self, block: int, entry: BlockRecord, believed: list[str], now: float) -> None:
        liars = [w for group in entry.groups if group is not believed for w in group]
        entry.groups = [believed]
        for liar in liars:
            reason = f"it computed a block otherwise than {' and '.join(believed[:2])}"
            self._out.append(DropWorker(liar, reason, liar=True))
            self._lose(liar, reason, now)
            self._discount(liar, now)
        if entry.accepted is None:
            self._accept(block, entry, believed[0])
        elif entry.accepted in liars:
            self._abort(
                f"worker {entry.accepted} computed wrong numbers that had been used already; it is "
                "to be kept away, and the same command resumes from the last checkpoint "
                "(with --verify_fraction=1 such numbers are never used)"
            )

    def _discount(self, liar: str, now: float) -> None:
        """What the liar said of other blocks, and what was not used, counts no more."""
        for block in list(self._unsettled):
            entry = self.ledger.blocks.get(block)
            if entry is not None and entry.accepted is None and entry.answered(liar):
                others = ([w for w in group if w != liar] for group in entry.groups)
                entry.groups = [group for group in others if group]
                if not entry.groups:
                    entry.answered_at = None
                    del self._unsettled[block]
                self._requeue(block, now)

    def _accept(self, block: int, entry: BlockRecord, worker: str) -> None:
        self.ledger.accept(block, worker)
        self.counters.accepted += 1
        self.counters.verified += any(len(group) > 1 for group in entry.groups)
        self._out.append(AcceptAnswer(worker, block))
        self._out += [CancelBlock(other, block) for other in sorted(entry.out)]

    def _withdraw(self, block: int) -> None:
        entry = self.ledger.blocks.get(block)
        if entry is None:
            return
        if entry.accepted is not None and entry.disputed:
            self._abort_disputed(entry)
        if entry.accepted is None:
            self._out += [CancelBlock(worker, block) for worker in sorted(entry.out)]
        self.ledger.withdraw(block)
        self._requeue(block, 0.0)

    # --- failures ----------------------------------------------------------------------------

    def _fail(self, worker: str, block: int, kind: str, message: str, now: float) -> None:
        lease = self.ledger.release(worker, block, now)
        if kind != events.TRANSPORT:
            self._answered(worker)
        if lease is None:  # its deadline had passed: counted then
            return
        entry, record = self.ledger.blocks[block], self.ledger.workers[worker]
        if kind == events.CANCELLED:
            pass
        elif kind in (events.TRANSPORT, events.MISSING):
            self.counters.lost += 1
            entry.losses += 1
            if kind == events.MISSING:
                self.ledger.forget_held(worker)
                self._out.append(ForgetRows(worker))
            else:
                self._rest(worker, record, message, now)
            if kind == events.MISSING or len(self.ledger.workers) < 2:
                entry.rests_until = now + _pause(entry.losses)
            if entry.spec.optional:
                self._withdraw(block)
            elif entry.losses >= rules.MOST_LOSSES and entry.accepted is None:
                self._quarantine(block, [f"{worker}: {message}"])
        else:
            self._blame(block, worker, message, now, numerical=kind == events.NUMERICAL)
        self._requeue(block, now)

    def _rest(self, worker: str, record: WorkerRecord, message: str, now: float) -> None:
        if now < record.rests_until:
            return  # lost together with that for which it rests
        record.lost_in_a_row += 1
        record.rests_until = now + _pause(record.lost_in_a_row)
        if record.lost_in_a_row >= rules.LOST_IN_A_ROW:
            reason = f"{record.lost_in_a_row} messages in a row were lost, the last: {message}"
            self._out.append(DropWorker(worker, reason))
            self._lose(worker, reason, now)

    def _blame(
        self, block: int, worker: str, message: str, now: float, numerical: bool = False
    ) -> None:
        """The block failed on a worker, for a reason that may lie in the block."""
        entry = self.ledger.blocks[block]
        if entry.spec.optional:
            self._withdraw(block)
            return
        self.counters.failed += 1
        if entry.accepted is not None:
            return
        entry.failures += 1
        entry.failed[worker] = message
        entry.numerical = entry.numerical and numerical
        entry.rests_until = now + _pause(entry.failures)
        most = rules.FAILED_WORKERS * (2 if self._has_others(entry) else 1)
        if len(entry.failed) >= rules.FAILED_WORKERS or entry.failures >= most:
            self._quarantine(block, [f"{w}: {reason}" for w, reason in entry.failed.items()])

    def _quarantine(self, block: int, reasons: list[str]) -> None:
        self._out.append(QuarantineBlock(block, tuple(reasons)))
        entry = self.ledger.blocks[block]
        why = f"a block ({entry.spec.shape}) failed wherever it was tried ({'; '.join(reasons)})"
        self._out.append(Abort(why, numerical=bool(entry.failures) and entry.numerical))

    def _abort(self, reason: str) -> None:
        self._out.append(Abort(reason))

    def _lose(self, worker: str, reason: str, now: float) -> None:
        if worker not in self.ledger.workers:
            return
        record = self.ledger.remove_worker(worker)
        self.counters.left += 1
        if not record.draining:
            self._last_loss = now
        self._times.forget_worker(worker)
        self.waiting.unbind(worker)
        self._all_may_find = True
        for block, lease in record.out.items():
            if lease.started is not None:
                self._blame(block, worker, reason, now)
            self._requeue(block, now)
        if not self.ledger.workers:
            self._deserted_since, self._last_departure = now, f"{worker}: {reason}"

    # --- time --------------------------------------------------------------------------------

    def _pass_deadlines(self, now: float) -> None:
        for worker, record in list(self.ledger.workers.items()):
            for block, lease in list(record.out.items())[:1]:
                limit = self._deadline(worker, self.ledger.blocks[block].spec.shape)
                if lease.started is not None and now - lease.started > limit:
                    self._stall(worker, record, limit, now)
            stalled = record.stalled_since
            if stalled is not None and now - stalled > (
                rules.DEADLINES_UNTIL_DROPPED * rules.MIN_DEADLINE_SECONDS
            ):
                reason = f"it has not answered for {now - stalled:.0f} s beyond a deadline"
                self._out.append(DropWorker(worker, reason))
                self._lose(worker, reason, now)

    def _stall(self, worker: str, record: WorkerRecord, limit: float, now: float) -> None:
        record.stalled_since = now
        for block in reversed(list(record.out)):  # so that none is started by the end of another
            lease = self.ledger.release(worker, block, now)
            if lease is not None and lease.started is not None:
                self._blame(block, worker, f"no answer within {limit:.0f} s", now)
            self._requeue(block, now)

    def _deadline(self, worker: str, shape: str) -> float:
        expected = self._times.expected(shape)
        if expected is None or not self._times.is_warm(worker, shape):
            return rules.FIRST_DEADLINE_SECONDS
        slowness = max(1.0, self._times.slowness(worker))
        return max(rules.MIN_DEADLINE_SECONDS, rules.DEADLINE_FACTOR * expected * slowness)

    def _lose_patience(self, now: float) -> None:
        since = self._deserted_since
        if (
            since is not None
            and self.num_unfinished
            and (now - since >= self.policy.patience_seconds)
        ):
            self._abort(f"no worker is left; the last was lost, {self._last_departure}")
        for block in list(self._unsettled):
            entry = self.ledger.blocks.get(block)
            if entry is None or entry.answered_at is None or not entry.unsettled:
                del self._unsettled[block]
            elif now - self._alone_since(entry) > rules.VERIFIER_PATIENCE_SECONDS and not (
                entry.out or any(self._suits(worker, entry) for worker in self.ledger.workers)
            ):
                self._settle_unverified(block, entry, now - entry.answered_at, now)

    def _alone_since(self, entry: BlockRecord) -> float:
        """From when on an answered block has waited for a worker to confirm the answer."""
        assert entry.answered_at is not None
        if entry.disputed or self.policy.verify_fraction >= 1:
            return entry.answered_at
        # A sample can be given up. Who took its leave is not expected back.
        return min(entry.answered_at, self._last_loss)

    def _settle_unverified(self, block: int, entry: BlockRecord, waited: float, now: float) -> None:
        if entry.disputed:
            self._abort_disputed(entry)
            return
        if self.policy.verify_fraction >= 1:
            if waited > self.policy.patience_seconds:
                self._abort(
                    f"only worker {entry.groups[0][0]} is there to compute some blocks, and with "
                    "--verify_fraction=1 another must agree; start a second worker, or give a "
                    "smaller fraction"
                )
            return
        self.counters.unverified += 1
        self._accept(block, entry, entry.groups[0][0])
        self._requeue(block, now)

    def _abort_disputed(self, entry: BlockRecord) -> None:
        names = " and ".join(group[0] for group in entry.groups)
        self._abort(f"workers {names} computed a block differently, and there is no third")


def _pause(failures: int) -> float:
    """Seconds to wait after so many failures: doubled each time, and never long."""
    return float(
        min(rules.LONGEST_PAUSE_SECONDS, rules.FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))
    )
