"""What follows from each event: answers, failures, deadlines, verification (rules 5, 6, 8, 10)."""

import dataclasses

from kipper.server.scheduler import events, rules
from kipper.server.scheduler.events import Event, Instruction
from kipper.server.scheduler.ledger import BlockRecord, WorkerRecord
from kipper.server.scheduler.placement import Placement
from kipper.server.scheduler.rules import Policy
from kipper.server.scheduler.state import State

# How many workers' messages fit into a sentence.
_LISTED = 8


class Scheduler:
    """Turns events into instructions; rules.py has the rules.

    Attributes:
        policy: as given.
        state: everything else that decisions depend on; the scheduler changes it.
        ledger, health, counters: parts of the state.
    """

    def __init__(self, policy: Policy, state: State | None = None):
        self.policy = policy
        self.state = state or State()
        self.ledger = self.state.ledger
        self.health = self.state.health
        self.counters = self.state.counters
        self._placement = Placement(policy, self.state)
        self._freed: list[str] = []  # workers that answered in this event
        self._out: list[Instruction] = []

    def verify(self, fraction: float) -> None:
        """Changes the share of blocks, queued from now on, that two workers must agree on."""
        self.policy = dataclasses.replace(self.policy, verify_fraction=fraction)
        self._placement.follow(self.policy)

    @property
    def num_unfinished(self) -> int:
        """Number of blocks without a result."""
        return len(self.ledger.blocks) - self.ledger.num_accepted

    @property
    def disputed(self) -> dict[int, list[list[str]]]:
        """Blocks to which workers gave different answers: the workers, grouped by equal answers."""
        blocks = self.ledger.blocks
        found = {b: blocks[b] for b in self.state.unsettled if b in blocks}
        return {block: entry.groups for block, entry in found.items() if entry.disputed}

    @property
    def capacity(self) -> int:
        """How many blocks can be out at once."""
        return rules.WINDOW * max(1, len(self.ledger.workers))

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """The instructions that follow from an event at time `now`, in seconds of any clock."""
        self._count_time(now)
        self._out = []
        self._freed = []
        self._apply(event, now)
        if not isinstance(event, events.Tick):
            self._placement.check_soon(now)
        self._out += self._placement.assign(self._freed, now)
        return self._out

    def wake_in(self, now: float) -> float:
        """Seconds until a `Tick` may have consequences, at most 1."""
        soonest = 1.0
        for block in self.state.resting:
            soonest = min(soonest, self.ledger.blocks[block].rests_until - now)
        if self.state.waiting or self.ledger.behind:
            for worker in self.ledger.idle:
                rest = self.ledger.workers[worker].rests_until - now
                soonest = min(soonest, rest) if rest > 0 else soonest
        if self.ledger.blocks:
            soonest = min(soonest, self.state.next_late_check - now, self.state.next_check - now)
        return max(soonest, rules.LATE_CHECK_SECONDS)

    def _apply(self, event: Event, now: float) -> None:
        match event:
            case events.BlockFinished(worker, block, agrees):
                self._finish(worker, block, agrees, now)
            case events.BlocksQueued(specs):
                self._placement.queue(specs)
            case events.BlockFailed(worker, block, kind, message):
                self._fail(worker, block, kind, message, now)
            case events.WorkerJoined(worker):
                self._join(worker, now)
            case events.WorkerLeft(worker, reason):
                self._lose(worker, reason, now)
            case events.WorkerDraining(worker):
                if worker in self.ledger.workers:
                    self.ledger.workers[worker].draining = True
                    self.state.waiting.unbind(worker)
                    self.state.reconsider_all = True
            case events.BlocksWithdrawn(blocks):
                for block in blocks:
                    self._withdraw(block)
            case events.Tick():
                self.state.reconsider_all = True  # pauses and the patience with slow workers end
                if now >= self.state.next_check:
                    self.state.next_check = now + rules.CHECK_SECONDS
                    self._check_deadlines(now)
                    self._check_patience(now)

    def _join(self, worker: str, now: float) -> None:
        if worker in self.ledger.workers:
            self._lose(worker, "another worker of this name joined", now)
            if any(isinstance(one, events.SetAsideWorker) for one in self._out):
                return  # one death too many
        self.ledger.add_worker(worker)
        self.health.joined(worker)
        self.state.reconsider_all = True
        self.state.deserted_since = None

    def _count_time(self, now: float) -> None:
        if self.state.clock is not None:
            elapsed = max(0.0, now - self.state.clock)
            present = len(self.ledger.workers)
            self.counters.worker_seconds += elapsed * present
            self.counters.busy_seconds += elapsed * (present - len(self.ledger.idle))
        self.state.clock = now

    # --- answers -----------------------------------------------------------------------------

    def _finish(self, worker: str, block: int, agrees: tuple[str, ...], now: float) -> None:
        entry = self.ledger.blocks.get(block)
        lease = self.ledger.release(worker, block, now)
        self._note_answer(worker)
        if entry is None:
            return
        # The duration of an optional block depends on the rows that its worker holds already.
        if lease is not None and lease.started is not None and not entry.spec.optional:
            pace = self.ledger.workers[worker].pace
            self.state.times.add(pace, entry.spec.shape, now - lease.started)
        if lease is not None and not entry.spec.optional:
            self.health.answered(worker, entry.spec.kind)
        if entry.withdrawn or entry.answered(worker):
            self._placement.requeue(block, now)
            return
        if entry.failed:
            self.state.reconsider_all = True  # only a worker that failed it may be left to try it
        group = next((g for g in entry.groups if any(other in g for other in agrees)), None)
        if group is None:
            entry.groups.append([worker])
        else:
            group.append(worker)
        self._compare(block, entry, now)
        self._placement.requeue(block, now)

    def _note_answer(self, worker: str) -> None:
        self._freed.append(worker)
        record = self.ledger.workers.get(worker)
        if record is not None:
            record.stalled_since = None
            record.lost_in_a_row = 0
            self.ledger.frozen.discard(worker)

    def _compare(self, block: int, entry: BlockRecord, now: float) -> None:
        """Accepts an answer that enough workers gave, and drops workers that are outvoted."""
        groups = entry.groups
        largest = max(groups, key=len)
        if entry.accepted is None and len(groups) == 1 and len(largest) >= entry.wanted:
            self._accept(block, entry, largest[0])
        elif entry.unconfirmed and len(groups) == 1 and len(largest) >= entry.wanted:
            self.ledger.settle(block)
            self.counters.verified += 1
            self._cancel(block)
        elif entry.needs_answer and (entry.answered_at is None or entry.disputed):
            entry.answered_at = now
            self.state.unsettled[block] = None
        if len(groups) > 1:
            entry.wanted = 2
            if len(largest) >= 2:
                self._settle_dispute(block, entry, largest, now)
            elif len(groups) > 2:
                names = ", ".join(sorted(group[0] for group in groups))
                self._abort(f"workers {names} gave {len(groups)} different answers to one block")

    def _settle_dispute(
        self, block: int, entry: BlockRecord, believed: list[str], now: float
    ) -> None:
        liars = [w for group in entry.groups if group is not believed for w in group]
        entry.groups = [believed]
        for liar in liars:
            reason = f"its answer to a block differs from that of {' and '.join(believed[:2])}"
            self._out.append(events.DropWorker(liar, reason, liar=True))
            self._lose(liar, reason, now)
            self._discard_answers(liar, now)
        if entry.accepted is None:
            self._accept(block, entry, believed[0])
        else:
            self.ledger.settle(block)

    def _discard_answers(self, liar: str, now: float) -> None:
        """Discards the liar's answers to other blocks; no decision about them is needed."""
        for block, entry in list(self.ledger.blocks.items()):
            if entry.answered(liar):
                others = ([w for w in group if w != liar] for group in entry.groups)
                entry.groups = [group for group in others if group]
                if entry.accepted == liar:  # if it was used, the run goes back
                    self.ledger.settle(block)
                if not entry.groups:
                    entry.answered_at = None
                    self.state.unsettled.pop(block, None)
                self._placement.requeue(block, now)

    def _accept(self, block: int, entry: BlockRecord, worker: str) -> None:
        self.ledger.accept(block, worker)
        self.counters.accepted += 1
        self.counters.verified += any(len(group) > 1 for group in entry.groups)
        self._out.append(events.AcceptAnswer(worker, block))
        self._cancel(block)

    def _accept_unconfirmed(self, block: int, entry: BlockRecord) -> None:
        """Has the first answer used; a second one is still wanted and compared."""
        worker = entry.groups[0][0]
        self.ledger.accept(block, worker, unconfirmed=True)
        self.counters.accepted += 1
        self.counters.unverified += 1
        self._out.append(events.AcceptAnswer(worker, block))

    def _withdraw(self, block: int) -> None:
        entry = self.ledger.blocks.get(block)
        if entry is None:
            return
        if entry.accepted is not None and entry.disputed:
            self._abort_disputed(entry)
        if entry.accepted is None:
            self._cancel(block)
        self.ledger.withdraw(block)
        self._placement.requeue(block, 0.0)

    def _cancel(self, block: int) -> None:
        for worker in sorted(self.ledger.blocks[block].out):
            self.ledger.cancel(worker, block)
            self._out.append(events.CancelBlock(worker, block))

    # --- failures ----------------------------------------------------------------------------

    def _fail(
        self, worker: str, block: int, kind: events.FailureKind, message: str, now: float
    ) -> None:
        lease = self.ledger.release(worker, block, now)
        if kind != events.TRANSPORT:
            self._note_answer(worker)
        if kind == events.CANCELLED and not self.ledger.take_cancellation(worker, block):
            kind, message = events.FAILED, f"it skipped a block that nobody cancelled ({message})"
        if lease is None:  # it missed its deadline, which counted as a failure
            return
        match kind:
            case events.CANCELLED:
                pass
            case events.TRANSPORT:
                self._count_loss(block, worker, message, now)
            case events.MISSING:
                self._send_rows_again(block, worker, message, now)
            case _:
                self._count_failure(block, worker, message, now, kind == events.NUMERICAL)
        self._placement.requeue(block, now)

    def _count_loss(self, block: int, worker: str, message: str, now: float) -> None:
        """Records that the request or the answer was lost on its way."""
        entry, record = self.ledger.blocks[block], self.ledger.workers[worker]
        self.counters.lost += 1
        entry.losses += 1
        entry.suspect_losses += record.lost_in_a_row == 0
        self._rest(worker, record, message, now)
        if len(self.ledger.workers) < 2:
            entry.rests_until = now + _pause(entry.losses)
        if entry.spec.optional:
            self._withdraw(block)
        elif entry.suspect_losses >= rules.MAX_LOSSES and entry.accepted is None:
            self._quarantine(block, {worker: message})

    def _send_rows_again(self, block: int, worker: str, message: str, now: float) -> None:
        """Assumes that the worker holds nothing; one that lacks rows again and again is broken."""
        entry = self.ledger.blocks[block]
        self.counters.lost += 1
        entry.losses += 1
        entry.rests_until = now + _pause(entry.losses)
        self.ledger.forget_held(worker)
        self._out.append(events.ForgetRows(worker))
        if entry.spec.optional:
            self._withdraw(block)
        elif block in self.health.record(worker, entry.spec.kind).in_a_row:
            self._count_failure(block, worker, message, now)  # to send them again did not help
        else:
            self._doubt(worker, block, message, now)

    def _rest(self, worker: str, record: WorkerRecord, message: str, now: float) -> None:
        if now < record.rests_until:
            return  # lost together with the message for which it rests already
        record.lost_in_a_row += 1
        record.rests_until = now + _pause(record.lost_in_a_row)
        if record.lost_in_a_row >= rules.LOST_IN_A_ROW:
            reason = f"{record.lost_in_a_row} messages in a row were lost, the last: {message}"
            self._drop(worker, reason, now)

    def _count_failure(
        self, block: int, worker: str, message: str, now: float, numerical: bool = False
    ) -> None:
        """Records a failure whose cause may be the block or the worker."""
        entry = self.ledger.blocks[block]
        if entry.spec.optional:
            self._withdraw(block)
            return
        self.counters.failed += 1
        if entry.accepted is None:
            entry.failures += 1
            entry.rests_until = now + _pause(entry.failures)
            entry.failed[worker] = message
            entry.times_failed[worker] = entry.times_failed.get(worker, 0) + 1
            if not numerical:
                entry.failed_otherwise.add(worker)
        self._doubt(worker, block, message, now)
        if entry.accepted is None and self._is_to_blame(block, entry):
            self._quarantine(block, entry.failed)

    def _doubt(self, worker: str, block: int, message: str, now: float) -> None:
        """Notes a failure of the worker, which may be set aside for it."""
        entry, record = self.ledger.blocks[block], self.ledger.workers.get(worker)
        kind = entry.spec.kind
        refuted = bool(entry.groups) or entry.accepted is not None
        self.health.failed(worker, kind, block, message, refuted, now)
        self.state.reconsider_all = True  # other workers may now have to try failed blocks
        in_a_row = len(self.health.record(worker, kind).in_a_row)
        if self.health.is_broken(worker, kind):
            self._set_aside(
                worker, f"it failed {in_a_row} blocks in a row, the last: {message}", now
            )
        elif record is not None and in_a_row > 1:
            record.rests_until = max(record.rests_until, now + _pause(in_a_row - 1))
        if self._nobody_can(kind, now):
            self._give_up(block, entry)

    def _set_aside(self, worker: str, reason: str, now: float) -> None:
        seconds = self.health.set_aside(worker)
        self._out.append(events.SetAsideWorker(worker, reason, seconds))
        self._lose(worker, f"set aside, because {reason}", now, blames=False)

    def _is_to_blame(self, block: int, entry: BlockRecord) -> bool:
        """Whether the block failed on enough workers that fail no others."""
        if entry.groups:
            return False  # some worker could compute it
        witnesses = self._witnesses(block, entry)
        proven = self._proven(witnesses, entry)
        if len(proven) >= rules.FAILED_WORKERS:
            return True
        if self._placement.has_untried_judge(entry):
            return False
        count = sum(entry.times_failed[worker] for worker in proven or witnesses)
        return count >= rules.FAILED_WORKERS

    def _witnesses(self, block: int, entry: BlockRecord) -> list[str]:
        """Workers on which the block failed, and no other block since their last answer."""
        kind = entry.spec.kind
        return [w for w in entry.failed if self.health.fails_only(w, kind, block)]

    def _proven(self, workers: list[str], entry: BlockRecord) -> list[str]:
        kind, times = entry.spec.kind, entry.times_failed
        return [w for w in workers if self.health.is_proven(w, kind, forgiven=times[w])]

    def _nobody_can(self, kind: str, now: float) -> bool:
        """Whether every worker fails all blocks of a kind, and the run waits for no better one."""
        present = [w for w, record in self.ledger.workers.items() if not record.draining]
        if not present or not all(self.health.is_failing(worker, kind) for worker in present):
            return False
        if (
            self.health.answers.get(kind)
            or self.policy.patience_seconds < rules.FIRST_PATIENCE_SECONDS
        ):
            return True
        since = min(self.health.record(worker, kind).since for worker in present)
        return now - since >= rules.FIRST_PATIENCE_SECONDS

    def _give_up(self, block: int, entry: BlockRecord) -> None:
        """Aborts the run, because no worker computes blocks of a kind any more."""
        said = [f"{worker}: {self.health.said[worker]}" for worker in self.ledger.workers]
        self._out.append(events.QuarantineBlock(block, tuple(said)))
        why = f"every worker failed its last {rules.FAILED_IN_A_ROW} blocks, or more"
        numerical = self._is_numerical(list(entry.failed), entry)
        self._out.append(events.Abort(f"{why} ({_listed(said)})", numerical))

    def _quarantine(self, block: int, failed: dict[str, str]) -> None:
        entry = self.ledger.blocks[block]
        said = [f"{worker}: {reason}" for worker, reason in failed.items()]
        self._out.append(events.QuarantineBlock(block, tuple(said)))
        why = f"a block ({entry.spec.shape}) failed wherever it was tried ({_listed(said)})"
        numerical = self._is_numerical(self._witnesses(block, entry), entry)
        self._out.append(events.Abort(why, numerical))

    def _is_numerical(self, witnesses: list[str], entry: BlockRecord) -> bool:
        """Whether a block's numbers are not finite, according to all credible workers."""
        believed = self._proven(witnesses, entry) or witnesses
        return (
            bool(believed)
            and not entry.groups
            and not entry.failed_otherwise.intersection(believed)
        )

    def _abort(self, reason: str) -> None:
        self._out.append(events.Abort(reason))

    def _drop(self, worker: str, reason: str, now: float) -> None:
        self._out.append(events.DropWorker(worker, reason))
        self._lose(worker, reason, now)

    def _lose(self, worker: str, reason: str, now: float, blames: bool = True) -> None:
        """Removes a worker; if it `blames`, the block that it was computing may be the cause."""
        if worker not in self.ledger.workers:
            return
        record = self.ledger.remove_worker(worker)
        self.counters.left += 1
        self.state.waiting.unbind(worker)
        self.state.reconsider_all = True
        for block, lease in record.out.items():
            if lease.started is not None and blames:
                self._count_failure(block, worker, reason, now)
            self._placement.requeue(block, now)
        self.health.left(worker)
        if not self.ledger.workers:
            self.state.deserted_since = now
            self.state.last_departure = f"{worker}: {reason}"

    # --- time --------------------------------------------------------------------------------

    def _check_deadlines(self, now: float) -> None:
        for worker, record in list(self.ledger.workers.items()):
            for block, lease in list(record.out.items())[:1]:
                if lease.started is None:
                    continue
                shape, elapsed = self.ledger.blocks[block].spec.shape, now - lease.started
                if worker not in self.ledger.frozen and self._is_frozen(record, shape, elapsed):
                    self.ledger.frozen.add(worker)
                    self.state.reconsider_all = True  # others may get what waited for it
                limit = self._deadline(record, shape)
                if elapsed > limit:
                    self._stall(worker, record, limit, now)
            stalled = record.stalled_since
            if stalled is not None and now - stalled > (
                rules.DEADLINES_UNTIL_DROPPED * rules.MIN_DEADLINE_SECONDS
            ):
                reason = f"it has not answered for {now - stalled:.0f} s beyond a deadline"
                self._drop(worker, reason, now)

    def _stall(self, worker: str, record: WorkerRecord, limit: float, now: float) -> None:
        record.stalled_since = now
        for block in reversed(list(record.out)):  # last first: ending one must not start the next
            lease = self.ledger.release(worker, block, now)
            if lease is not None and lease.started is not None:
                self._count_failure(block, worker, f"no answer within {limit:.0f} s", now)
            self._placement.requeue(block, now)

    def _is_frozen(self, record: WorkerRecord, shape: str, elapsed: float) -> bool:
        expected = self.state.times.expected.get(shape)
        if expected is None:
            return False
        slowness = max(1.0, record.pace.slowness)
        return elapsed > max(rules.FROZEN_SECONDS, rules.FROZEN_FACTOR * expected * slowness)

    def _deadline(self, record: WorkerRecord, shape: str) -> float:
        expected = self.state.times.expected.get(shape)
        if expected is None or shape not in record.pace.shapes:
            return rules.FIRST_DEADLINE_SECONDS
        slowness = max(1.0, record.pace.slowness)
        return max(rules.MIN_DEADLINE_SECONDS, rules.DEADLINE_FACTOR * expected * slowness)

    def _check_patience(self, now: float) -> None:
        since = self.state.deserted_since
        if (
            since is not None
            and self.num_unfinished
            and now - since >= self.policy.patience_seconds
        ):
            self._abort(f"no worker is left; the last was lost, {self.state.last_departure}")
        for block in list(self.state.unsettled):
            entry = self.ledger.blocks.get(block)
            if entry is None or entry.answered_at is None or not entry.unsettled:
                del self.state.unsettled[block]
                continue
            is_sample = self.policy.verify_fraction < 1 and not entry.disputed
            if is_sample and entry.accepted is None:
                if not self._placement.expects_answer(entry):
                    self._accept_unconfirmed(block, entry)
            elif now - entry.answered_at > rules.VERIFIER_PATIENCE_SECONDS and not (
                entry.out
                or any(self._placement.suits(worker, entry) for worker in self.ledger.workers)
            ):
                self._leave_unconfirmed(block, entry, now - entry.answered_at, now)

    def _leave_unconfirmed(self, block: int, entry: BlockRecord, waited: float, now: float) -> None:
        if entry.disputed:
            self._abort_disputed(entry)
        elif entry.unconfirmed:
            self.ledger.settle(block)
            self._placement.requeue(block, now)
        elif waited > self.policy.patience_seconds:
            self._abort(
                f"worker {entry.groups[0][0]} is the only one left for some blocks, and "
                "--verify_fraction=1 requires that a second worker agrees; start a second "
                "worker or give a smaller fraction"
            )

    def _abort_disputed(self, entry: BlockRecord) -> None:
        names = " and ".join(group[0] for group in entry.groups)
        self._abort(
            f"workers {names} gave different answers to a block, and no third can decide which of "
            "them is right; start a third worker and give the same command again"
        )


def _listed(said: list[str]) -> str:
    """The messages of workers, at most a few of them in full."""
    more = len(said) - _LISTED
    return "; ".join([*said[:_LISTED], *([f"and {more} more"] if more > 0 else [])])


def _pause(failures: int) -> float:
    """Seconds to wait after this many failures: doubles each time, up to a maximum."""
    return float(
        min(rules.MAX_PAUSE_SECONDS, rules.FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))
    )
