"""Workers as one device: blocks in, results out in the order in which they were requested.

Gives events to the scheduler and carries out its instructions over worker links. All of this
happens in one thread, that of the caller who waits for results; links and other threads post
functions to an inbox, which that thread calls.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from kipper.common import logs, messages
from kipper.common.errors import KipperError, NumericalError, WorkerError
from kipper.common.numerics import Numerics
from kipper.server import quarantine, replies
from kipper.server.batch import Batch
from kipper.server.block_specs import BlockRequest, optional_spec, spec_of
from kipper.server.confirmations import Confirmations, LiesUsed
from kipper.server.deliveries import Support
from kipper.server.disputes import Disputes, OpenDisputes
from kipper.server.pool_counts import Counts, Phase
from kipper.server.pool_options import PoolOptions
from kipper.server.pool_worker import PoolWorker
from kipper.server.protocol import WorkerLink
from kipper.server.roster import Roster
from kipper.server.scheduler import events
from kipper.server.scheduler.event_log import EventLog
from kipper.server.scheduler.rules import MOST_URGENT
from kipper.server.scheduler.scheduler import Scheduler
from kipper.server.watch.matrix import Grid

_SECONDS_BETWEEN_SHARES = 0.5
_SECONDS_BETWEEN_WARNINGS = 60.0

# Priorities of `map`: blocks that the next step needs, then those that only inform, then those that
# may save time later.
STEP, EVALUATION, PREFETCH = MOST_URGENT, MOST_URGENT + 1, MOST_URGENT + 2

# A share of blocks to verify that is practically 1, but does not stop a run whose second worker
# leaves.
_NEARLY_ALL = 1 - 2**-30

_DIVERGED = "the run has diverged: give a smaller --learning_rate or a larger --ridge"

BlockReply = messages.KernelBlock | messages.ImageCotangents | messages.Done


class Pool:
    """Workers that share row sets and the support images of a step.

    Attributes:
        counts: totals so far.
        phases: times so far, by phase.
        has_aborted: whether the scheduler ended the run.
        position: the position of the state that the caller computes with; see `Confirmations`.
        confirmations: which workers' answers the used results rest on.
        scheduler: may be read, in the pool's thread only.

    Args:
        links: the first workers; the pool closes them.
        configure: the kernel and engine that workers use.
        row_sets: float32 images (n, h, w, c) by content key, to which blocks may refer.
        on_progress: called between events, at least about once a second while blocks are out.
        options: everything else.
    """

    def __init__(
        self,
        links: Sequence[WorkerLink],
        configure: messages.Configure,
        row_sets: Mapping[str, np.ndarray],
        on_progress: Callable[[], None] = lambda: None,
        options: PoolOptions | None = None,
    ):
        self.counts = Counts()
        self.phases: dict[str, Phase] = {}
        self.has_aborted = False
        self.position = 0
        self.confirmations = Confirmations()
        self._options = options or PoolOptions()
        self._watch = self._options.watch
        self._configure = configure
        self._row_sets = row_sets
        self.on_progress = on_progress
        self.scheduler = Scheduler(self._options.policy)
        folder = self._options.folder
        self._log = EventLog(folder / "events.jsonl", self.scheduler) if folder else None
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._last_tick = self._warned_at = time.monotonic()
        self._blocks: dict[int, BlockRequest] = {}
        self._answers: dict[int, dict[str, tuple[Numerics | None, BlockReply]]] = {}  # by worker
        self._results: dict[int, tuple[BlockReply, str]] = {}
        self._supports: dict[int, Support] = {}
        self._image_shape: tuple[int, ...] = ()
        self._shares: dict[str, float] = {}
        self._shares_until = 0.0
        self._last_block = 0
        self._version = 0
        self._prefetching: Generator[Any, None, None] | None = None
        self._found_liars = False
        self._verified_up_to = -1
        self._open_disputes = OpenDisputes(self._options.disputes)
        self._undecided: Disputes = []  # that the end of a caller, or of a coordinator, cut short
        self._roster = Roster(
            configure,
            row_sets,
            self._options,
            self.counts,
            self.scheduler.ledger,
            self._inbox.put,
            self._handle,
        )
        for link in links:
            self._roster.add(link)

    # --- workers: may be called from any thread ----------------------------------------------

    def join(self, link: WorkerLink) -> None:
        """Adds a worker; replaces the one of the same name, if there is one."""
        self._inbox.put(lambda: self._roster.add(link))

    def leave(self, name: str, reason: str) -> None:
        """Removes a worker that is gone or cannot be reached."""
        self._inbox.put(lambda: self._roster.dismiss(name, reason))

    def drain(self, name: str) -> None:
        """Gives a worker no more blocks."""
        self._inbox.put(lambda: self._handle(events.WorkerDraining(name)))

    def fail(self, error: KipperError) -> None:
        """Ends the caller's work with `error`, because no worker can come."""

        def end() -> None:
            raise error

        self._inbox.put(end)

    def blocks_out(self, name: str) -> int:
        """The number of blocks that a worker has not answered."""
        record = self.scheduler.ledger.workers.get(name)
        return len(record.out) if record is not None else 0

    def has_computed(self, name: str) -> bool:
        """Whether a worker that is present has answered a block, even if only the known one."""
        worker = self._roster.workers.get(name)
        return worker is not None and bool(worker.engine)

    def is_banned(self, name: str) -> str | None:
        """Why a worker of that name was dropped as a liar; None if it was not."""
        return self._roster.why_banned(name)

    @property
    def set_aside(self) -> dict[str, str]:
        """The workers that were set aside and may not return yet, and why."""
        return self._roster.set_aside_now

    def note_certificate(self, name: str, fingerprint: str) -> None:
        """Notes the certificate of a worker, if it is not the coordinator's own."""
        self._roster.certificates[name] = fingerprint

    def why_aside(self, name: str) -> str | None:
        """Why a worker of that name, which was set aside, may not join now; None if it may."""
        return self._roster.why_aside(name)

    def why_refused(self, name: str) -> str | None:
        """Why the worker of that name failed its set-up; None if it did not."""
        return self._roster.refused.get(name)

    # --- for the caller --------------------------------------------------------------------------

    @property
    def engines(self) -> dict[str, str]:
        """The engine of each worker that is set up."""
        return {name: device["engine"] for name, device in self.devices.items()}

    @property
    def devices(self) -> dict[str, dict[str, str]]:
        """Engine, device and numeric identity of each worker that is set up."""
        return {
            name: {
                "engine": worker.engine,
                "device": worker.device,
                "numerics": str(worker.numerics),
            }
            for name, worker in self._roster.workers.items()
            if worker.engine
        }

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time of the block as part of a phase."""
        start = self._tally()
        try:
            yield
        finally:
            phase = self.phases.get(name, Phase())
            self.phases[name] = phase.plus_difference(start, self._tally())

    def publish(self, images: np.ndarray, kernel: int = 0) -> int:
        """Makes `images` (n, h, w, c) the support of the following blocks; returns their version.

        `kernel` is the position of the blocks' kernel among those of the run.

        Raises:
            NumericalError: the images are not finite.
        """
        if not np.isfinite(images).all():
            raise NumericalError(f"The support images are not finite any more; {_DIVERGED}.")
        self._version += 1
        self._image_shape = images.shape[1:]
        oldest = self._version - 1
        self._stop_prefetching()
        stale = [
            number
            for number, request in self._blocks.items()
            if not isinstance(request, messages.Prepare) and request.version < oldest
        ]
        while any(block in self.scheduler.disputed for block in stale):
            self.work()  # a third worker needs the support images that are about to be dropped
        self._withdraw(stale)
        self._supports = {v: s for v, s in self._supports.items() if v >= oldest}
        step = logs.subject().get("step", -1)
        self._supports[self._version] = Support(self._version, kernel, images, step)
        for worker in self._roster.workers.values():
            worker.deliveries.forget_support_before(oldest)
        return self._version

    def map(
        self,
        requests: Iterable[tuple[BlockRequest, str | None]],
        priority: int = STEP,
        grid: Grid | None = None,
    ) -> Generator[tuple[BlockReply, str], None, None]:
        """Yields each result and the worker that computed it, in the order of the requests.

        The first blocks are queued at once, the others as results are taken, so that memory stays
        bounded. Several maps may be in progress; the more urgent ones go first.

        Args:
            requests: blocks, each with the worker that it prefers.
            priority: smaller is more urgent.
            grid: the matrix that the blocks belong to, for the live page.

        Raises:
            LiesUsed: results that were taken turned out to be wrong.
            WorkerError: no worker is left, or a block failed wherever it was tried.
        """
        announce = self._watch.planned(grid) if self._watch and grid else lambda _numbers: None
        batch = Batch(
            requests,
            functools.partial(self._queue, priority, announce),
            self._results,
            self.work,
            lambda: self.scheduler.capacity,
            lambda block: self.confirmations.used(block, self.position),
        )
        answers = self._withdrawing(batch)
        next(answers)  # enters its `try`, so that closing it withdraws blocks even if never used
        return answers

    def prefetch(self, requests: Iterable[messages.Prepare]) -> None:
        """Has idle workers prepare rows until the next `publish`; unfinished requests are dropped.

        Requests for rows that every worker holds, and that need no preparation, are left out.
        """
        self._stop_prefetching()
        missing = self._missing_shares()
        worthwhile = [
            (request, None)
            for request in requests
            if request.draw != messages.UNCHANGED or missing.get(request.columns_key, 0.0) > 0
        ]
        self._prefetching = self.map(worthwhile, PREFETCH)

    def settle(self) -> None:
        """Waits until a decision has been made about all answers that differ.

        Raises:
            LiesUsed: results that were taken turned out to be wrong.
            WorkerError: no worker can decide.
        """
        while self.scheduler.disputed:
            self.work()
        self._check_lies()

    @property
    def liars(self) -> set[str]:
        """Workers that computed wrong numbers."""
        return self._roster.bans.workers

    @property
    def suspects(self) -> set[str]:
        """Workers that gave different answers while it is not known which are right."""
        return {worker for groups in self._disputes() for group in groups for worker in group}

    def in_doubt_from(self) -> int | None:
        """The last position before the first result of liars, or of either side of a dispute.

        None if no such result was used. Answers on which both sides agreed are not in doubt.
        """
        doubted = [self.liars]
        for groups in self._disputes():
            everyone = self.liars.union(*groups)
            doubted += [everyone.difference(believed) for believed in groups]
        found = (self.confirmations.in_doubt_from(names, self.position) for names in doubted)
        return min((position for position in found if position is not None), default=None)

    def start_over(self, confirmations: Confirmations) -> None:
        """Drops all blocks; the caller goes on from an earlier state, with its confirmations."""
        self._stop_prefetching()
        self._withdraw(list(self._blocks))
        self._undecided = self._open_disputes.left
        self.confirmations = confirmations
        # Also those that an earlier coordinator found, or that differed when it was killed.
        self._found_liars = bool(self.liars or self._undecided)

    def forget_disputes(self) -> None:
        """To be called when no numbers from either side of any dispute are left."""
        self._open_disputes.left = self._undecided = []
        self._open_disputes.now([])

    def verify_up_to_here(self) -> bool:
        """Has blocks computed by two workers until the caller's position is greater than now.

        Returns whether that can reveal anything that is not known.
        """
        can = (
            not self.has_aborted
            and self.position > self._verified_up_to
            and len(self._roster.workers) > 1
            and self.confirmations.num_confirmed < self.confirmations.num_used
        )
        if can:
            self._verified_up_to = self.position
            self._verify(max(_NEARLY_ALL, self._options.policy.verify_fraction))
        return can

    def _verify(self, fraction: float) -> None:
        if fraction != self.scheduler.policy.verify_fraction:
            self.scheduler.verify(fraction)
            if self._log is not None:
                self._log.begin_anew()

    @property
    def num_events_logged(self) -> int | None:
        """The lines of the scheduler's log; None if there is none."""
        return None if self._log is None else self._log.num_lines

    def close(self) -> None:
        """Closes the workers' links and the log."""
        self._roster.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _stop_prefetching(self) -> None:
        if self._prefetching is not None:
            self._prefetching.close()
        self._prefetching = None

    def _withdrawing(self, batch: Batch[Any, Any]) -> Generator[Any, None, None]:
        """Yields once by itself, then the results; withdraws blocks that are left at the end."""
        try:
            yield
            yield from batch
        finally:
            self._withdraw(batch.outstanding)

    def _tally(self) -> Phase:
        self._catch_up()
        self._tick()  # brings the scheduler's counters up to date
        spent = self.scheduler.counters
        return Phase(
            time.monotonic(),
            spent.worker_seconds,
            spent.busy_seconds,
            self.counts.bytes_sent,
            self.counts.bytes_received,
        )

    # --- events ------------------------------------------------------------------------------

    def work(self) -> None:
        """Calls the next function in the inbox, or waits until a tick is due.

        Raises:
            LiesUsed: results that were taken turned out to be wrong.
        """
        self.on_progress()
        self._check_lies()
        try:
            do = self._inbox.get(timeout=self.scheduler.wake_in(time.monotonic()))
        except queue.Empty:
            self._tick()
            return
        do()
        if time.monotonic() - self._last_tick > 1:
            self._catch_up()
            self._tick()

    def _disputes(self) -> Disputes:
        return [*self.scheduler.disputed.values(), *self._undecided]

    def _check_lies(self) -> None:
        if self._found_liars and not self.scheduler.disputed:
            self._found_liars = False
            position = self.in_doubt_from()
            if position is not None:
                self._verified_up_to = -1
                raise LiesUsed(position, self.liars | self.suspects)
            self.forget_disputes()

    def _catch_up(self) -> None:
        """Empties the inbox, so that answers that have arrived do not count as late."""
        for _ in range(self._inbox.qsize()):
            self._inbox.get_nowait()()

    def _tick(self) -> None:
        self._last_tick = now = time.monotonic()
        self._handle(events.Tick())
        if self._log is not None:
            self._log.flush()
        self._roster.dismiss_overdue(now)
        if not self._roster.workers and now - self._warned_at > _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            wanted, lost = self._options.admission.wanted, self._roster.lost()
            logging.warning(
                "No worker is present; the run waits for one%s.%s",
                f" that computes by {wanted}" if wanted is not None else "",
                f" The last were lost: {lost.rstrip('.')}." if lost else "",
            )

    def _handle(self, event: events.Event) -> None:
        now = time.monotonic()
        instructions = self.scheduler.handle(event, now)
        if self._log is not None:
            self._log.record(now, event, instructions)
        if self._watch is not None:
            self._watch.handled(now, event, instructions)
        for instruction in instructions:
            self._carry_out(instruction)

    def _carry_out(self, instruction: events.Instruction) -> None:
        match instruction:
            case events.SendBlock(worker, block):
                self._send(worker, block)
            case events.AcceptAnswer(worker, block):
                self._accept(worker, block)
            case events.CancelBlock(worker, block):
                self._cancel(worker, block)
            case events.ForgetRows(worker):
                self._roster.workers[worker].deliveries.forget()
            case events.DropWorker(worker, reason, liar):
                if liar:
                    self._found_liars = True
                    self._roster.ban(worker, reason)
                self._roster.dismiss(worker, reason, scheduler_knows=True)
            case events.SetAsideWorker(worker, reason, seconds):
                self._roster.set_aside(worker, reason, seconds)
            case events.QuarantineBlock(block, reasons):
                self._quarantine(block, reasons)
            case events.Abort(reason, numerical):
                self.has_aborted = True
                if numerical:
                    raise NumericalError(f"The run stopped: {reason}; {_DIVERGED}.")
                raise WorkerError(f"The run stopped: {reason}.")

    # --- blocks ------------------------------------------------------------------------------

    def _queue(
        self,
        priority: int,
        announce: Callable[[Iterable[int]], None],
        requests: list[tuple[BlockRequest, str | None]],
    ) -> list[events.BlockSpec]:
        if self.position > self._verified_up_to:
            self._verify(self._options.policy.verify_fraction)
        missing = self._missing_shares()
        specs = []
        announce(range(self._last_block + 1, self._last_block + 1 + len(requests)))
        for unnumbered, prefers in requests:
            self._last_block += 1
            request = dataclasses.replace(unnumbered, block=self._last_block)
            self._blocks[self._last_block] = request
            share = missing.get(request.columns_key, 0.0)
            if isinstance(request, messages.Prepare):
                row_set = self._row_sets[request.columns_key]
                specs.append(optional_spec(request, row_set, share, priority))
            else:
                images = self._supports[request.version].images
                specs.append(spec_of(request, images, share, priority, prefers))
        self._handle(events.BlocksQueued(tuple(specs)))
        return specs

    def _missing_shares(self) -> dict[str, float]:
        """The share of each row set that a worker lacks on average; recomputed occasionally."""
        now = time.monotonic()
        if now < self._shares_until:
            return self._shares
        self._shares_until = now + _SECONDS_BETWEEN_SHARES
        joined = [worker for worker in self._roster.workers.values() if worker.joined]
        self._shares = {
            key: 1 - sum(w.deliveries.share_held(key) for w in joined) / max(1, len(joined))
            for key in self._row_sets
        }
        return self._shares

    def _withdraw(self, blocks: list[int]) -> None:
        """Drops blocks whose results nobody will take."""
        disputed = self.scheduler.disputed
        self._undecided += [disputed[block] for block in blocks if block in disputed]
        for block in blocks:
            self._results.pop(block, None)
            self.confirmations.withdrawn(block)
        if blocks:
            self._handle(events.BlocksWithdrawn(tuple(blocks)))
        self._forget_finished(list(self._blocks))

    def _forget_finished(self, blocks: list[int]) -> None:
        for block in blocks:
            if block not in self.scheduler.ledger.blocks:
                self._blocks.pop(block, None)
                self._answers.pop(block, None)
                self.confirmations.finished(block)

    def _send(self, name: str, block: int) -> None:
        worker, request = self._roster.workers[name], self._blocks[block]
        support = None if isinstance(request, messages.Prepare) else self._supports[request.version]
        deliveries, awaited = worker.deliveries.needed(request, support)
        if awaited:
            worker.held_back[block] = awaited
        else:
            self._submit_block(worker, block)
        for delivery in deliveries:
            then = functools.partial(self._delivered, worker, delivery.number)
            self._roster.submit(worker, delivery.request, then)

    def _delivered(
        self, worker: PoolWorker, number: int, future: "concurrent.futures.Future[messages.Reply]"
    ) -> None:
        reply = replies.outcome(future)
        if isinstance(reply, messages.Done):
            worker.deliveries.arrived(number)
            for block in worker.ready_after(number):
                self._submit_block(worker, block)
            return
        worker.deliveries.lost(number)
        problem = replies.why_not_done(reply)
        for block in worker.stranded_without(number):
            self._handle(events.BlockFailed(worker.name, block, *problem))

    def _submit_block(self, worker: PoolWorker, block: int) -> None:
        request = self._blocks.get(block)
        record = self.scheduler.ledger.workers.get(worker.name)
        if request is None or record is None or block not in record.out:
            return  # cancelled while its rows were on their way
        then = functools.partial(self._answered, worker, block)
        self._roster.submit(worker, request, then)

    def _answered(
        self, worker: PoolWorker, block: int, future: "concurrent.futures.Future[messages.Reply]"
    ) -> None:
        reply, name = replies.outcome(future), worker.name
        request = self._blocks.get(block)
        if request is None:  # withdrawn; the scheduler must still learn that the worker is free
            self._handle(events.BlockFinished(name, block))
            return
        problem = replies.failure(request, reply, self._image_shape, self._configure.dtype)
        if problem is not None:
            if problem.kind != events.CANCELLED:
                with logs.about(worker=name, block=block):
                    logging.info("The block failed: %s", problem.message)
            self._handle(events.BlockFailed(name, block, *problem))
        else:
            assert isinstance(reply, BlockReply)
            answers = self._answers.setdefault(block, {})
            agrees = tuple(
                other
                for other, (numerics, answer) in answers.items()
                if replies.same(reply, answer, numerics == worker.numerics, self._configure.dtype)
            )
            answers[name] = worker.numerics, reply
            self.confirmations.answered(block, name, agrees)
            self._handle(events.BlockFinished(name, block, agrees))
            if len(agrees) < len(answers) - 1:  # a dispute began, or was decided
                self._open_disputes.now(self._disputes())
        self._forget_finished([block])

    def _accept(self, name: str, block: int) -> None:
        request, (_, reply) = self._blocks[block], self._answers[block][name]
        self._results[block] = reply, name
        self.confirmations.accepted(block, name)
        if isinstance(request, messages.Prepare):
            return
        pairs = (request.stop - request.start) * len(request.columns)
        if isinstance(request, messages.Block):
            self.counts.kernel_pairs += pairs
        else:
            self.counts.vjp_pairs += pairs
        self.counts.blocks += 1
        if self._watch is not None:
            self._watch.accepted(name, block, pairs)

    def _cancel(self, name: str, block: int) -> None:
        worker = self._roster.workers.get(name)
        if worker is None:
            return
        if worker.held_back.pop(block, None) is None:
            self._roster.submit(worker, messages.Cancel(block=block), lambda _: None)
        else:  # not sent yet; the scheduler is told after its current instructions
            failed = events.BlockFailed(name, block, events.CANCELLED, "not sent yet")
            self._inbox.put(lambda: self._handle(failed))

    def _quarantine(self, block: int, reasons: tuple[str, ...]) -> None:
        if self._options.folder is None:
            return
        request = self._blocks[block]
        assert not isinstance(request, messages.Prepare)  # optional blocks are never quarantined
        path = quarantine.save(
            self._options.folder,
            request,
            self._supports[request.version].images,
            self._row_sets.get(request.columns_key),
            self._configure,
            reasons,
        )
        with logs.about(block=block):
            logging.error("The block's inputs are in %s.", path)
