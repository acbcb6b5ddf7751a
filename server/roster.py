"""The workers of a pool: who is there, what is asked of them, and the thread that hears of it.

Its state is touched by one thread alone, whoever waits for results; links and other threads put
what there is to do into its inbox.
"""

import abc
import concurrent.futures
import contextlib
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from absl import logging

from kipper.common import logs, messages
from kipper.common.errors import WorkerError
from kipper.common.messages import Reply, Request
from kipper.server import replies
from kipper.server.deliveries import Deliveries
from kipper.server.means import Counts, Means, Phase
from kipper.server.member import Member, Script
from kipper.server.protocol import WorkerLink
from kipper.server.scheduler import events
from kipper.server.scheduler.recorded import RecordedScheduler
from kipper.server.scheduler.scheduler import Scheduler

# Includes JAX's first look at the devices, and the engine's check of itself.
_SET_UP_SECONDS = 300.0
_SECONDS_BETWEEN_COMPLAINTS = 60.0


class Roster(abc.ABC):
    """Workers, made ready and watched; what the scheduler says of blocks is for a subclass.

    Attributes:
        counts: what was done so far.
        phases: the same by phase.
    """

    def __init__(
        self,
        links: Sequence[WorkerLink],
        configure: messages.Configure,
        row_sets: Mapping[str, np.ndarray],
        on_progress: Callable[[], None],
        means: Means,
    ):
        self.counts = Counts()
        self.phases: dict[str, Phase] = {}
        self._means = means
        self._configure = configure
        self._row_sets = row_sets
        self._on_progress = on_progress
        path = means.folder / "events.jsonl" if means.folder is not None else None
        self._watch = means.watch
        observer = self._watch.handled if self._watch is not None else None
        self._recorded = RecordedScheduler(means.policy, path, observer)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._members: dict[str, Member] = {}
        self._banned: dict[str, str] = {}
        self._image_shape: tuple[int, ...] = ()
        self._last_tick = self._complained_at = time.monotonic()
        for link in links:
            self._welcome(link)

    # --- membership: callable from any thread --------------------------------------------------

    def join(self, link: WorkerLink) -> None:
        """A worker comes; one of that name, if there is one, is gone."""
        self._inbox.put(lambda: self._welcome(link))

    def leave(self, name: str, reason: str) -> None:
        """A worker cannot be reached or is gone."""
        self._inbox.put(lambda: self._dismiss(name, reason))

    def drain(self, name: str) -> None:
        """A worker wants no more blocks."""
        self._inbox.put(lambda: self._perform(events.WorkerDraining(name)))

    def heard(self, name: str) -> None:
        """A worker gave a sign of life."""
        self._inbox.put(lambda: self._perform(events.Heartbeat(name)))

    def blocks_out(self, name: str) -> int:
        """How many blocks a worker has not answered."""
        record = self._recorded.scheduler.ledger.workers.get(name)
        return len(record.out) if record is not None else 0

    def is_banned(self, name: str) -> str | None:
        """Why a worker of that name was dropped for lying, if it was."""
        return self._banned.get(name)

    # --- for the coordinator -----------------------------------------------------------------

    @property
    def scheduler(self) -> Scheduler:
        """As it is at present; to be read by the pool's thread alone."""
        return self._recorded.scheduler

    @property
    def engines(self) -> dict[str, str]:
        """The engine of each worker that is ready."""
        return {name: member.engine for name, member in self._members.items() if member.engine}

    @property
    def devices(self) -> dict[str, dict[str, str]]:
        """Engine and device of each worker that is ready."""
        return {
            name: {"engine": member.engine, "device": member.device}
            for name, member in self._members.items()
            if member.engine
        }

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts what happens meanwhile as part of a phase of that name."""
        before = self._tally()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, Phase()) + (self._tally() - before)

    def _tally(self) -> Phase:
        self._catch_up()
        self._perform(events.Tick())  # so that the scheduler's clock is right
        self._recorded.tend(time.monotonic())  # between phases there are often no blocks
        spent, counts = self._recorded.scheduler.counters, self.counts
        return Phase(
            time.monotonic(),
            spent.worker_seconds,
            spent.busy_seconds,
            counts.bytes_sent,
            counts.bytes_received,
        )

    def close(self) -> None:
        """Lets go of the workers."""
        for member in self._members.values():
            member.link.close()
        self._members.clear()
        self._recorded.close()

    # --- workers ---------------------------------------------------------------------------------

    def _welcome(self, link: WorkerLink) -> None:
        self._part_with(link.name, "another came by its name")
        if link.name in self._banned:
            link.close()
            return
        member = Member(link, Deliveries(self._row_sets, self._configure.whitening))
        self._members[link.name] = member
        self.counts.workers += 1
        if self._watch is not None:
            self._watch.welcomed(link.name, link.host)
        self._continue(member, member.set_up(self._configure, self._means.known), None)

    def _continue(self, member: Member, script: Script, reply: Reply | None) -> None:
        try:
            request = next(script) if reply is None else script.send(reply)
        except StopIteration as stop:
            if stop.value is not None:
                self._dismiss(member.name, stop.value)
                return
            member.joined = True
            with logs.about(worker=member.name):
                logging.info("The worker joined: %s on %s", member.engine, member.device)
            if self._watch is not None:
                self._watch.ready(member.name, member.engine, member.device)
            self._perform(events.WorkerJoined(member.name))
            return

        def answered(future: "concurrent.futures.Future[Reply]") -> None:
            reply = replies.outcome(future)
            if isinstance(reply, Exception):
                self._dismiss(member.name, replies.message_of(reply))
                return
            wrong = replies.fault(request, reply, self._image_shape, self._configure.dtype)
            if wrong is not None:
                self._dismiss(member.name, wrong)
            else:
                self._continue(member, script, reply)

        self._submit(member, request, answered)

    def _dismiss(self, name: str, reason: str, scheduler_knows: bool = False) -> None:
        was_there = name in self._members
        self._part_with(name, reason, scheduler_knows)
        if was_there and not self._members and not self._means.elastic:
            raise WorkerError(
                f"The run stopped: no worker is left; the last, {name}, was lost: {reason}."
            )

    def _part_with(self, name: str, reason: str, scheduler_knows: bool = False) -> None:
        member = self._members.pop(name, None)
        if member is None:
            return
        record = self._recorded.scheduler.ledger.workers.get(name)
        with logs.about(worker=name):
            if record is not None and record.draining and not record.out:
                logging.info("The worker left.")
            else:
                logging.warning("The worker is lost: %s", reason)
        self.counts.workers -= 1
        member.link.close()
        if member.joined and not scheduler_knows:
            self._perform(events.WorkerLeft(name, reason))
        if not member.joined and self._watch is not None:
            self._watch.gave_up(name, reason)

    # --- events ----------------------------------------------------------------------------------

    def _submit(
        self,
        member: Member,
        request: Request,
        then: Callable[["concurrent.futures.Future[Reply]"], None],
    ) -> None:
        """Asks a worker; `then` is called in the pool's thread, if the worker is still there."""
        self._moved(member, sent=replies.num_bytes(request))

        def arrived(future: "concurrent.futures.Future[Reply]") -> None:
            if not future.cancelled() and future.exception() is None:
                self._moved(member, received=replies.num_bytes(future.result()))
            if self._members.get(member.name) is member:
                then(future)

        member.link.submit(request).add_done_callback(
            lambda future: self._inbox.put(lambda: arrived(future))
        )

    def _moved(self, member: Member, sent: int = 0, received: int = 0) -> None:
        self.counts.bytes_sent += sent
        self.counts.bytes_received += received
        if self._watch is not None:
            self._watch.moved(member.name, sent, received)

    def _work(self) -> None:
        """Does what is in the inbox, or waits a moment for something to come."""
        self._on_progress()
        try:
            do = self._inbox.get(timeout=self._recorded.scheduler.wake_in(time.monotonic()))
        except queue.Empty:
            self._tick()
            return
        do()
        if time.monotonic() - self._last_tick > 1:
            self._catch_up()
            self._tick()

    def _catch_up(self) -> None:
        """Does what has come meanwhile, so that no answer is taken for late that is there."""
        for _ in range(self._inbox.qsize()):
            self._inbox.get_nowait()()

    def _tick(self) -> None:
        self._last_tick = now = time.monotonic()
        self._perform(events.Tick())
        self._recorded.tend(now)
        for name, member in list(self._members.items()):
            if not member.joined and now - member.asked_at > _SET_UP_SECONDS:
                self._dismiss(name, f"it was not ready within {now - member.asked_at:.0f} s")
        if not self._members and now - self._complained_at > _SECONDS_BETWEEN_COMPLAINTS:
            self._complained_at = now
            logging.warning("No worker is there; the run waits for one.")

    def _perform(self, event: events.Event) -> None:
        for instruction in self._recorded.handle(event, time.monotonic()):
            self._carry_out(instruction)

    @abc.abstractmethod
    def _carry_out(self, instruction: events.Instruction) -> None:
        """Does what the scheduler says."""
