"""The workers that a pool has links to: set-up, requests, removal.

Everything here runs in the pool's thread.
"""

import concurrent.futures
import time
from collections.abc import Callable, Mapping

import numpy as np
from absl import logging

from kipper.common import logs, messages
from kipper.common.errors import UserError, WorkerError
from kipper.common.messages import Reply, Request
from kipper.server import replies
from kipper.server.bans import Ban, Bans
from kipper.server.deliveries import Deliveries
from kipper.server.pool_counts import Counts
from kipper.server.pool_options import PoolOptions
from kipper.server.pool_worker import PoolWorker, SetUp
from kipper.server.protocol import WorkerLink
from kipper.server.scheduler import events
from kipper.server.scheduler.ledger import Ledger

# Includes JAX's search for devices and the engine's self-check.
_SET_UP_SECONDS = 300.0
# How many lost workers are named when none is left.
_LISTED = 8


class Roster:
    """Workers by name, from their first request until they are removed.

    Only the roster knows each worker's link and the rows it was sent. The scheduler's ledger has
    the workers that have joined, with their blocks; the registry has the processes behind links.

    Attributes:
        workers: by name.
        bans: the bans of liars.
        certificates: the certificates of workers that have other ones than the coordinator, by
            name.
        aside: for workers that were set aside, by name: until when they may not return, and why.
        refused: why workers failed their set-up, by name, until another process of that name comes.

    Args:
        configure: the first request to each worker.
        row_sets: images (n, h, w, c) by content key.
        options, counts, ledger: those of the pool and its scheduler.
        post: has a function called in the pool's thread.
        handle: gives an event to the scheduler and carries out its instructions.
    """

    def __init__(
        self,
        configure: messages.Configure,
        row_sets: Mapping[str, np.ndarray],
        options: PoolOptions,
        counts: Counts,
        ledger: Ledger,
        post: Callable[[Callable[[], None]], None],
        handle: Callable[[events.Event], None],
    ):
        self.workers: dict[str, PoolWorker] = {}
        self.bans = Bans(options.bans)
        self.certificates: dict[str, str] = {}
        self.aside: dict[str, tuple[float, str]] = {}
        self._lost: dict[str, str] = {}  # why the last few workers were lost
        self.refused: dict[str, str] = {}
        self._configure = configure
        self._row_sets = row_sets
        self._options = options
        self._watch = options.watch
        self._counts = counts
        self._ledger = ledger
        self._post = post
        self._handle = handle

    def add(self, link: WorkerLink) -> None:
        """Sets up a worker; replaces the one of the same name, if there is one."""
        self._remove(link.name, "another worker of this name joined")
        if self.why_banned(link.name) is not None or self.why_aside(link.name) is not None:
            link.close()
            return
        self.refused.pop(link.name, None)
        worker = PoolWorker(link, Deliveries(self._row_sets, self._configure.whitening))
        self.workers[link.name] = worker
        self._counts.workers += 1
        if self._watch is not None:
            self._watch.welcomed(link.name, link.host)
        options = self._options
        set_up = worker.set_up(self._configure, options.known, options.admission)
        self._continue(worker, set_up, None)

    def dismiss(self, name: str, reason: str, scheduler_knows: bool = False) -> None:
        """Removes a worker, if it is there.

        Raises:
            WorkerError: it was the last one, and no others may join.
        """
        was_there = name in self.workers
        self._remove(name, reason, scheduler_knows)
        if was_there and not self.workers and not self._options.elastic:
            earlier = self.lost(but=name)
            raise WorkerError(
                f"The run stopped: no worker is left; the last, {name}, was lost: {reason}"
                f"{'; before it, ' if earlier else ''}{earlier}."
            )

    def ban(self, name: str, reason: str) -> None:
        """Bans a worker: none of its name or with its certificate may join this run again."""
        worker = self.workers.get(name)
        host = worker.link.host if worker is not None else ""
        certificate = self.certificates.get(name, "")
        holders = [each for each, has in self.certificates.items() if has == certificate]
        self.bans.add(name, Ban(reason, host, certificate if holders == [name] else ""))

    def why_banned(self, name: str) -> str | None:
        """Why a worker is banned; None if it is not."""
        return self.bans.why(name, self.certificates.get(name, ""))

    def set_aside(self, name: str, reason: str, seconds: float) -> None:
        """Removes a broken worker; no worker of its name is admitted for `seconds`.

        Raises:
            WorkerError: it was the last one, and no others may join.
        """
        self.aside[name] = time.monotonic() + seconds, reason
        self.dismiss(name, f"it is set aside: {reason}", scheduler_knows=True)

    def lost(self, but: str = "") -> str:
        """Why the last few workers were lost, `but` one; empty if none were."""
        return "; ".join(f"{name}: {why}" for name, why in self._lost.items() if name != but)

    @property
    def set_aside_now(self) -> dict[str, str]:
        """The workers that were set aside and may not return yet, and why."""
        now = time.monotonic()
        return {name: why for name, (until, why) in self.aside.items() if until > now}

    def why_aside(self, name: str) -> str | None:
        """Why a worker was set aside, and for how long; None if a worker of that name may join."""
        until, why = self.aside.get(name, (0.0, ""))
        left = until - time.monotonic()
        if left <= 0:
            return None
        then = f"A new process of that name may join in {left:.0f} s."
        return f"Worker {name} was set aside: {why}. {then}"

    def _refuse(self, name: str, reason: str) -> None:
        """Removes a worker that would fail its set-up again.

        Raises:
            UserError: the run has no worker, and others like this one only can come.
        """
        self.refused[name] = reason
        self._remove(name, f"it is refused: {reason}")
        others_may_come = self._options.elastic and self._options.admission.others_may_come
        if not self.workers and not others_may_come:
            raise UserError(f"The run stopped, because worker {name} was refused: {reason}.")

    def dismiss_overdue(self, now: float) -> None:
        """Removes the workers whose set-up takes too long."""
        for name, worker in list(self.workers.items()):
            if not worker.joined and now - worker.asked_at > _SET_UP_SECONDS:
                self.dismiss(name, f"it was not ready within {now - worker.asked_at:.0f} s")

    def submit(
        self,
        worker: PoolWorker,
        request: Request,
        then: Callable[["concurrent.futures.Future[Reply]"], None],
    ) -> None:
        """Sends a request; `then` is called in the pool's thread unless the worker is removed."""
        self._count_bytes(worker, sent=replies.num_bytes(request))

        def arrived(future: "concurrent.futures.Future[Reply]") -> None:
            if not future.cancelled() and future.exception() is None:
                self._count_bytes(worker, received=replies.num_bytes(future.result()))
            if self.workers.get(worker.name) is worker:
                then(future)

        worker.link.submit(request).add_done_callback(
            lambda future: self._post(lambda: arrived(future))
        )

    def close(self) -> None:
        """Closes all links."""
        for worker in self.workers.values():
            worker.link.close()
        self.workers.clear()

    def _continue(self, worker: PoolWorker, set_up: SetUp, reply: Reply | None) -> None:
        """Sends the next request of a worker's set-up."""
        try:
            request = next(set_up) if reply is None else set_up.send(reply)
        except StopIteration as stop:
            if stop.value is not None:
                self._refuse(worker.name, stop.value)
                return
            worker.joined = True
            with logs.about(worker=worker.name):
                logging.info("The worker joined: %s on %s", worker.engine, worker.device)
            if self._watch is not None:
                self._watch.ready(worker.name, worker.engine, worker.device)
            self._handle(events.WorkerJoined(worker.name))
            return

        def answered(future: "concurrent.futures.Future[Reply]") -> None:
            reply = replies.outcome(future)
            failure = replies.failure(request, reply, (), self._configure.dtype)
            if failure is not None:
                self.dismiss(worker.name, failure.message)
            elif not isinstance(reply, Exception):
                self._continue(worker, set_up, reply)

        self.submit(worker, request, answered)

    def _remove(self, name: str, reason: str, scheduler_knows: bool = False) -> None:
        worker = self.workers.pop(name, None)
        if worker is None:
            return
        record = self._ledger.workers.get(name)
        with logs.about(worker=name):
            if record is not None and record.draining and not record.out:
                logging.info("The worker left.")
            else:
                logging.warning("The worker is lost: %s", reason)
                self._lost.pop(name, None)
                self._lost[name] = reason
                for old in list(self._lost)[:-_LISTED]:
                    del self._lost[old]
        self._counts.workers -= 1
        worker.link.close()
        if worker.joined and not scheduler_knows:
            self._handle(events.WorkerLeft(name, reason))
        if not worker.joined and self._watch is not None:
            self._watch.gave_up(name, reason)

    def _count_bytes(self, worker: PoolWorker, sent: int = 0, received: int = 0) -> None:
        self._counts.bytes_sent += sent
        self._counts.bytes_received += received
        if self._watch is not None:
            self._watch.moved(worker.name, sent, received)
