"""Workers as one device: blocks in, results out in the order they were asked for.

Carries out the scheduler's instructions over worker links.
"""

import concurrent.futures
import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from kipper.common import logs, messages
from kipper.common.errors import NumericalError, WorkerError
from kipper.common.messages import (
    UNCHANGED,
    Block,
    Done,
    ImageCotangents,
    KernelBlock,
    Prepare,
    Reply,
)
from kipper.server import quarantine, replies
from kipper.server.batch import Batch
from kipper.server.block_specs import BlockRequest, optional_spec, spec_of
from kipper.server.deliveries import Support
from kipper.server.means import Means
from kipper.server.member import Member
from kipper.server.protocol import WorkerLink
from kipper.server.roster import Roster
from kipper.server.scheduler import events
from kipper.server.scheduler.placement import MOST_URGENT
from kipper.server.watch.matrix import Grid

_SECONDS_BETWEEN_SHARES = 0.5

# Priorities of `map`: what the next step waits for goes before what only informs, and that before
# what may save time later.
STEP, EVALUATION, AHEAD = MOST_URGENT, MOST_URGENT + 1, MOST_URGENT + 2

_DIVERGED = "the run has diverged: give a smaller --learning_rate or a larger --ridge"

BlockReply = KernelBlock | ImageCotangents | Done


class Pool(Roster):
    """Workers that share row sets and the support images of a step.

    Args:
        links: workers that are there from the start; the pool closes them.
        configure: which kernel and engine they are to use.
        row_sets: float32 images (n, h, w, c) by content key, that blocks may name.
        on_progress: called between events, at least about once a second while blocks are out.
        means: everything else.
    """

    def __init__(
        self,
        links: Sequence[WorkerLink],
        configure: messages.Configure,
        row_sets: Mapping[str, np.ndarray],
        on_progress: Callable[[], None] = lambda: None,
        means: Means | None = None,
    ):
        self._blocks: dict[int, BlockRequest] = {}
        self._answers: dict[int, dict[str, tuple[str, BlockReply]]] = {}  # worker -> device, answer
        self._results: dict[int, tuple[BlockReply, str]] = {}
        self._supports: dict[int, Support] = {}
        self._shares: dict[str, float] = {}
        self._shares_until = 0.0
        self._next_block = 0
        self._version = 0
        self._ahead: Generator[Any, None, None] | None = None
        super().__init__(links, configure, row_sets, on_progress, means or Means())

    # --- the coordinator's side ------------------------------------------------------------------

    @property
    def scheduler_counters(self) -> dict[str, float]:
        """See `rules.Counters`."""
        return dataclasses.asdict(self._recorded.scheduler.counters)

    def publish(self, images: np.ndarray, kernel: int = 0) -> int:
        """Makes `images` (n, h, w, c) the support of the blocks to come; returns their version.

        The blocks are of the kernel at that position among those of the run.

        Raises:
            NumericalError: they are not finite.
        """
        if not np.isfinite(images).all():
            raise NumericalError(f"The support images are not finite any more; {_DIVERGED}.")
        self._version += 1
        self._image_shape = images.shape[1:]
        oldest = self._version - 1
        self._end_ahead()
        stale = [
            number
            for number, request in self._blocks.items()
            if not isinstance(request, Prepare) and request.version < oldest
        ]
        self._withdraw(stale)
        self._supports = {v: s for v, s in self._supports.items() if v >= oldest}
        self._supports[self._version] = Support(
            self._version, kernel, images, logs.subject().get("step", -1)
        )
        for member in self._members.values():
            member.deliveries.forget_support_before(oldest)
        return self._version

    def map(
        self,
        requests: Iterable[tuple[BlockRequest, str | None]],
        priority: int = STEP,
        grid: Grid | None = None,
    ) -> Generator[tuple[BlockReply, str], None, None]:
        """Results and who computed them, in the order of the requests.

        Requests come with the worker they prefer. The first are queued at once, the others as
        results are taken: only so many are queued, out or waiting for an earlier one that memory
        stays bounded. Several maps may be under way; the more urgent go first. `grid` is of the
        matrix whose blocks they are, for onlookers.

        Raises:
            WorkerError: no worker is left, or a block failed wherever it was tried.
        """
        batch = Batch(
            requests,
            functools.partial(self._queue, priority, self._numbered(grid)),
            self._results,
            self._work,
            lambda: self._recorded.scheduler.capacity,
        )
        answers = self._withdrawn_at_end(batch)
        next(answers)  # from here on its end is seen to, even if nobody draws from it
        return answers

    def bring_ahead(self, requests: Iterable[Prepare]) -> None:
        """Has idle workers make rows ready, until the next `publish`; what they do not is no loss.

        Requests of which every worker holds the rows, ready as they are, are left out.
        """
        self._end_ahead()
        missing = self._shares_missing()
        worthwhile = [
            (request, None)
            for request in requests
            if request.draw != UNCHANGED or missing.get(request.columns_key, 0.0) > 0
        ]
        self._ahead = self.map(worthwhile, AHEAD)

    def _end_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.close()  # withdraws what has not been done
        self._ahead = None

    def _withdrawn_at_end(self, batch: Batch) -> Generator[Any, None, None]:
        try:
            yield batch  # to `map`
            yield from batch
        finally:
            self._withdraw(batch.outstanding)

    # --- blocks ----------------------------------------------------------------------------------

    def _numbered(self, grid: Grid | None) -> Callable[[Iterable[int]], None]:
        """What is to be told the numbers of the blocks of a matrix."""
        if grid is None or self._watch is None:
            return lambda _numbers: None
        return self._watch.planned(grid)

    def _queue(
        self,
        priority: int,
        numbered: Callable[[Iterable[int]], None],
        requests: list[tuple[BlockRequest, str | None]],
    ) -> list[events.BlockSpec]:
        missing = self._shares_missing()
        specs = []
        numbered(range(self._next_block + 1, self._next_block + 1 + len(requests)))
        for unnumbered, prefers in requests:
            self._next_block += 1
            request = dataclasses.replace(unnumbered, block=self._next_block)
            self._blocks[self._next_block] = request
            share = missing.get(request.columns_key, 0.0)
            if isinstance(request, Prepare):
                row_set = self._row_sets[request.columns_key]
                specs.append(optional_spec(request, row_set, share, priority))
            else:
                images = self._supports[request.version].images
                specs.append(spec_of(request, images, share, priority, prefers))
        self._perform(events.BlocksQueued(tuple(specs)))
        return specs

    def _shares_missing(self) -> dict[str, float]:
        """Of each row set, the share that workers lack on average; looked at now and then."""
        now = time.monotonic()
        if now < self._shares_until:
            return self._shares
        self._shares_until = now + _SECONDS_BETWEEN_SHARES
        joined = [member for member in self._members.values() if member.joined]
        self._shares = {
            key: 1 - sum(m.deliveries.share_there(key) for m in joined) / max(1, len(joined))
            for key in self._row_sets
        }
        return self._shares

    def _withdraw(self, blocks: list[int]) -> None:
        """Nobody will ask for these: the map was closed early."""
        for block in blocks:
            self._results.pop(block, None)
        if blocks:
            self._perform(events.BlocksWithdrawn(tuple(blocks)))
        for block in [b for b in self._blocks if b not in self._recorded.scheduler.ledger.blocks]:
            self._forget(block)

    def _forget(self, block: int) -> None:
        self._blocks.pop(block, None)
        self._answers.pop(block, None)

    def _send(self, name: str, block: int) -> None:
        member, request = self._members[name], self._blocks[block]
        support = None if isinstance(request, Prepare) else self._supports[request.version]
        deliveries, awaited = member.deliveries.needed(request, support)
        if awaited:
            member.held_back[block] = awaited
        else:
            self._submit_block(member, block)
        for delivery in deliveries:
            number = delivery.number
            self._submit(
                member, delivery.request, functools.partial(self._delivered, member, number)
            )

    def _delivered(
        self, member: Member, number: int, future: "concurrent.futures.Future[Reply]"
    ) -> None:
        reply = replies.outcome(future)
        if isinstance(reply, messages.Done):
            member.deliveries.arrived(number)
            for block in member.ready_after(number):
                self._submit_block(member, block)
            return
        member.deliveries.lost(number)
        why = replies.why_not_done(reply)
        for block in member.stranded_without(number):
            self._perform(events.BlockFailed(member.name, block, *why))

    def _submit_block(self, member: Member, block: int) -> None:
        request = self._blocks.get(block)
        record = self._recorded.scheduler.ledger.workers.get(member.name)
        if request is None or record is None or block not in record.out:
            return  # taken back while its rows were on their way
        self._submit(member, request, lambda future: self._answered(member, block, future))

    def _answered(
        self, member: Member, block: int, future: "concurrent.futures.Future[Reply]"
    ) -> None:
        reply, name = replies.outcome(future), member.name
        request = self._blocks.get(block)
        if request is None:  # withdrawn; what matters is that the worker is free again
            self._perform(events.BlockFinished(name, block))
            return
        failure = replies.failure(request, reply, self._image_shape, self._configure.dtype)
        if failure is not None:
            if failure[0] != events.CANCELLED:
                with logs.about(worker=name, block=block):
                    logging.info("The block failed: %s", failure[1])
            self._perform(events.BlockFailed(name, block, *failure))
        else:
            assert isinstance(reply, KernelBlock | ImageCotangents | Done)
            answers = self._answers.setdefault(block, {})
            agrees = tuple(
                other
                for other, (device, answer) in answers.items()
                if replies.same(reply, answer, device == member.device)
            )
            answers[name] = member.device, reply
            self._perform(events.BlockFinished(name, block, agrees))
        if block not in self._recorded.scheduler.ledger.blocks:
            self._forget(block)

    def _accept(self, name: str, block: int) -> None:
        request, (_, reply) = self._blocks[block], self._answers[block][name]
        self._results[block] = reply, name
        if isinstance(request, Prepare):
            return
        pairs = (request.stop - request.start) * len(request.columns)
        if isinstance(request, Block):
            self.counts.kernel_pairs += pairs
        else:
            self.counts.vjp_pairs += pairs
        self.counts.blocks += 1
        if self._watch is not None:
            self._watch.accepted(name, block, pairs)

    def _carry_out(self, instruction: events.Instruction) -> None:
        match instruction:
            case events.SendBlock(worker, block):
                self._send(worker, block)
            case events.AcceptAnswer(worker, block):
                self._accept(worker, block)
            case events.CancelBlock(worker, block):
                self._cancel(worker, block)
            case events.ForgetRows(worker):
                self._members[worker].deliveries.forget()
            case events.DropWorker(worker, reason, liar):
                if liar:
                    self._banned[worker] = reason
                self._dismiss(worker, reason, scheduler_knows=True)
            case events.QuarantineBlock(block, reasons):
                self._quarantine(block, reasons)
            case events.Abort(reason, numerical):
                if numerical:
                    raise NumericalError(f"The run stopped: {reason}; {_DIVERGED}.")
                raise WorkerError(f"The run stopped: {reason}.")

    def _cancel(self, name: str, block: int) -> None:
        member = self._members.get(name)
        if member is None:
            return
        if member.held_back.pop(block, None) is None:
            self._submit(member, messages.Cancel(block=block), lambda _: None)
        else:  # it has not been sent; to be told after the instructions under way
            failed = events.BlockFailed(name, block, events.CANCELLED, "not sent yet")
            self._inbox.put(lambda: self._perform(failed))

    def _quarantine(self, block: int, reasons: tuple[str, ...]) -> None:
        if self._means.folder is None:
            return
        request = self._blocks[block]
        assert not isinstance(request, Prepare)  # nobody is blamed for it
        path = quarantine.save(
            self._means.folder,
            request,
            self._supports[request.version].images,
            self._row_sets.get(request.columns_key),
            self._configure,
            reasons,
        )
        with logs.about(block=block):
            logging.error("The block's inputs are in %s.", path)
