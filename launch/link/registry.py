"""The coordinator's registry of workers: joining, heartbeats and leaving.

The rules:

1. `Hello` of the right protocol, from a worker that is not banned, joins the pool. A repetition by
   the same process changes nothing. Another process of the same name replaces the earlier one,
   which has died, or gets `Goodbye` when it calls. A process that failed the pool's set-up, which
   compares its numerics with the run's, gets `Failure` (REFUSED) from then on.
2. `Heartbeat` keeps a worker in the pool. A worker that the registry or the pool does not know gets
   `Failure` (UNKNOWN) and says `Hello` again: so workers survive a restart of the coordinator, and
   return after they were given up as silent.
3. `Leave` stops new blocks. The answer is `Welcome` while blocks are out, and then `Goodbye`.
4. A process that the pool has set aside gets `Failure` (SET_ASIDE) and ends. Another one of its
   name waits until the pool admits it again.
5. A worker silent for `SILENT_HEARTBEATS` leaves the pool.
6. A newcomer that finds no room takes the place of a worker that has computed nothing yet and has
   missed its heartbeat, the longest silent one. A worker that was welcomed and never called again
   is given less time. If there is no such worker, the newcomer is told so, and tries again.
7. When the run is over, the answer to all calls is `Goodbye`.

Calls come from the network, so no payload may raise.
"""

import concurrent.futures
import contextlib
import dataclasses
import re
import threading
import time
from collections.abc import Callable, Iterator

from absl import logging

from kipper.common import logs, messages, wire
from kipper.common.errors import Interrupted, KipperError, TemporaryError, UserError
from kipper.common.messages import (
    Answer,
    Call,
    Failure,
    Goodbye,
    Heartbeat,
    Hello,
    Leave,
    Reply,
    Request,
    Welcome,
)
from kipper.common.spare_files import keep_spare_files
from kipper.launch.link.transports.addresses import split_address
from kipper.launch.link.transports.caller import own_certificate
from kipper.launch.link.transports.open_files import max_workers
from kipper.launch.link.transports.transport import Transport
from kipper.server.pool import Pool
from kipper.server.protocol import WorkerLink

SILENT_HEARTBEATS = 10
# A busy machine may keep a process from running for some seconds.
_MIN_SILENT_SECONDS = 30.0
_HEARTBEAT_SECONDS = 1.0
# With many workers each calls less often, so that the coordinator gets at most this many calls.
_HEARTBEATS_PER_SECOND = 100
_SWEEP_SECONDS = 1.0
# When a newcomer may have the place of a worker that has computed nothing: the heartbeats that the
# worker missed, and a margin of seconds.
_MISSED_HEARTBEATS = 3
_LATE_SECONDS = 5.0
# A whole cluster may join at once, but not repeatedly.
_JOINS_AT_ONCE, _JOINS_PER_SECOND = 100, 10.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


class _TrackedLink:
    """A link that remembers whether the pool has closed it, and so released the worker."""

    def __init__(self, link: WorkerLink):
        self.name = link.name
        self.host = link.host
        self.closed = False
        self._link = link

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        return self._link.submit(request)

    def close(self) -> None:
        self.closed = True
        self._link.close()


@dataclasses.dataclass
class _Entry:
    """A member.

    Attributes:
        heard: when it called last.
        told: seconds until its next heartbeat, as its last answer said.
        calls: number of calls.
    """

    incarnation: str
    link: _TrackedLink
    heard: float
    told: float = 0.0
    calls: int = 0


class Registry:
    """Answers the calls of workers, from any thread.

    Args:
        pool: where workers join.
        connect: returns a link to a worker, from its name and address, without blocking.
        capacity: maximum number of workers.
        clock: seconds.
    """

    def __init__(
        self,
        pool: Pool,
        connect: Callable[[str, str], WorkerLink],
        capacity: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._pool = pool
        self._connect = connect
        self._capacity = capacity
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._swept = self._joins_at = clock()
        self._joins_left = self._most_joins = float(max(capacity, _JOINS_AT_ONCE))
        self._farewell: Goodbye | None = None  # once the registry is closed
        self._lock = threading.Condition()

    def handle(self, payload: bytes) -> bytes:
        """The encoded answer to an encoded call."""
        try:
            call = wire.decode(payload)
        except wire.WireError as error:
            return wire.encode(Failure(messages.DAMAGED, str(error)))
        if not isinstance(call, Call):
            kind = type(call).__name__
            return wire.encode(Failure(messages.REFUSED, f"A coordinator answers no {kind}."))
        try:
            with self._lock:
                return wire.encode(self._answer(call))
        except KipperError as error:
            return wire.encode(Failure(messages.FAILED, str(error)))
        except Exception as error:
            logging.exception("A worker's %s could not be answered.", type(call).__name__)
            return wire.encode(Failure(messages.FAILED, repr(error)))

    def sweep(self) -> None:
        """Removes workers that have been silent too long."""
        with self._lock:
            now = self._clock()
            limit = max(_MIN_SILENT_SECONDS, SILENT_HEARTBEATS * self.heartbeat_seconds)
            if now - self._swept > limit / 2:
                # This process did not run, and so could not hear anybody.
                for entry in self._entries.values():
                    entry.heard = now
            self._swept = now
            for name, entry in list(self._entries.items()):
                if now - entry.heard > limit:
                    self._remove(name, f"no sign of life for {now - entry.heard:.0f} s")

    def gone(self, worker: str, incarnation: str, reason: str) -> None:
        """Removes a worker whose process is known to have ended, if it is a member."""
        with self._lock:
            entry = self._entries.get(worker)
            if entry is not None and entry.incarnation == incarnation:
                self._remove(worker, reason)
                self._lock.notify_all()

    def close(self, reason: str, is_over: bool) -> None:
        """Tells every later caller that this coordinator ends, and whether the run is over."""
        with self._lock:
            self._farewell = Goodbye(reason, is_over)

    def wait_until_all_know(self, seconds: float) -> None:
        """Waits, after `close`, until every worker has been told, at most `seconds`."""
        with self._lock:
            self._lock.wait_for(lambda: not self._entries, seconds)

    @property
    def heartbeat_seconds(self) -> float:
        """Seconds between two heartbeats of a worker."""
        return max(_HEARTBEAT_SECONDS, len(self._entries) / _HEARTBEATS_PER_SECOND)

    def _why_replaced(self, entry: _Entry) -> str:
        """Why a new process has the entry's name: the entry's process has ended, or both live."""
        if self._clock() - entry.heard > 1.5 * self.heartbeat_seconds:
            return "its process ended, and a new one has taken its place"
        return "another process has the same name"

    def _answer(self, call: Call) -> Answer:
        if self._farewell is not None:
            self._entries.pop(call.worker, None)
            self._lock.notify_all()
            return self._farewell
        match call:
            case Hello():
                return self._hello(call)
            case Heartbeat():
                return self._heartbeat(call)
            case Leave():
                return self._leave(call)

    def _hello(self, hello: Hello) -> Answer:
        entry = self._entries.get(hello.worker)
        refusal = self._refusal(hello)
        if refusal is not None:
            logging.warning("Worker %.100r is refused: %s", hello.worker, refusal)
            return Failure(messages.REFUSED, refusal)
        if entry is not None:
            if entry.incarnation != hello.incarnation:
                self._remove(hello.worker, self._why_replaced(entry))
            elif not entry.link.closed:
                return self._welcome(hello)
            elif (failure := self._failed_set_up(hello)) is not None:
                return failure
        aside = self._pool.why_aside(hello.worker)
        if aside is not None:
            return Failure(messages.FAILED, aside)
        if hello.worker not in self._entries and not self._has_room():
            return Failure(
                messages.FAILED,
                f"The coordinator has room for {self._capacity} workers only, because of its limit "
                "of open files; raise it with ulimit -n. This worker joins when another one leaves",
            )
        if not self._may_join_now():
            return Failure(messages.FAILED, "Very many workers say hello; this one tries again")
        link = _TrackedLink(self._connect(hello.worker, hello.address))
        self._pool.join(link)
        self._entries[hello.worker] = _Entry(hello.incarnation, link, self._clock())
        with logs.about(worker=hello.worker):
            logging.info("The worker says hello from %s.", hello.address)
        return self._welcome(hello)

    def _refusal(self, hello: Hello) -> str | None:
        if hello.protocol_version != messages.PROTOCOL_VERSION:
            return (
                f"The worker speaks protocol {hello.protocol_version} and this coordinator "
                f"{messages.PROTOCOL_VERSION}; install the same kipper on both."
            )
        if not _NAME.fullmatch(hello.worker):
            return (
                f"{hello.worker[:100]!r} cannot be a worker's name; it must be up to 100 letters, "
                "digits and ._:-"
            )
        try:
            split_address(hello.address)
        except UserError as error:
            return str(error)
        if certificate := own_certificate():
            self._pool.note_certificate(hello.worker, certificate)
        banned = self._pool.is_banned(hello.worker)
        if banned is not None:
            return f"Worker {hello.worker} is banned from this run: {banned}."
        return None

    def _has_room(self) -> bool:
        """Whether a newcomer has a place, if necessary that of a worker that never did anything."""
        if len(self._entries) < self._capacity:
            return True
        now = self._clock()
        idle = [
            (entry.heard, name)
            for name, entry in self._entries.items()
            if now - entry.heard > self._missed_after(entry) and not self._pool.has_computed(name)
        ]
        if not idle:
            return False
        heard, name = min(idle)
        self._remove(name, f"no sign of life for {now - heard:.0f} s, and another worker waits")
        return True

    def _missed_after(self, entry: _Entry) -> float:
        """Seconds of silence after which a newcomer may have the worker's place."""
        heartbeats = 1 if entry.calls == 1 else _MISSED_HEARTBEATS
        return heartbeats * entry.told + _LATE_SECONDS

    def _may_join_now(self) -> bool:
        """Whether the rate of joins, each of which costs memory in the pool, is not too high."""
        now = self._clock()
        self._joins_left += (now - self._joins_at) * _JOINS_PER_SECOND
        self._joins_left, self._joins_at = min(self._joins_left, self._most_joins), now
        if self._joins_left < 1:
            return False
        self._joins_left -= 1
        return True

    def _heartbeat(self, call: Heartbeat) -> Answer:
        banned = self._pool.is_banned(call.worker)
        if banned is not None:
            self._entries.pop(call.worker, None)
            return Failure(
                messages.REFUSED, f"Worker {call.worker} is banned from this run: {banned}."
            )
        entry = self._entries.get(call.worker)
        if entry is None:
            return Failure(messages.UNKNOWN, "The coordinator does not know this worker.")
        if entry.incarnation != call.incarnation:
            return self._replaced(call)
        if entry.link.closed:
            aside = self._pool.why_aside(call.worker)
            if aside is not None:
                del self._entries[call.worker]
                return Failure(messages.SET_ASIDE, aside)
            failure = self._failed_set_up(call)
            if failure is not None:
                return failure
            del self._entries[call.worker]
            return Failure(messages.UNKNOWN, "The coordinator gave this worker up.")
        return self._welcome(call)

    def _failed_set_up(self, call: Hello | Heartbeat) -> Failure | None:
        """Tells a process why the pool has refused it, so that it does not come again."""
        refused = self._pool.why_refused(call.worker)
        if refused is None:
            return None
        return Failure(messages.REFUSED, f"Worker {call.worker} is refused: {refused}.")

    def _leave(self, call: Leave) -> Answer:
        entry = self._entries.get(call.worker)
        if entry is None:
            return Goodbye("The worker is not in the run.", is_over=False)
        if entry.incarnation != call.incarnation:
            return self._replaced(call)
        self._pool.drain(call.worker)
        if self._pool.blocks_out(call.worker) > 0:
            return self._welcome(call)
        self._remove(call.worker, "it left")
        return Goodbye("The worker left.", is_over=False)

    def _replaced(self, call: Heartbeat | Leave) -> Answer:
        return Goodbye(f"Another process has come as worker {call.worker}.", is_over=False)

    def _welcome(self, call: Call) -> Welcome:
        entry, seconds = self._entries[call.worker], self.heartbeat_seconds
        entry.heard, entry.told, entry.calls = self._clock(), seconds, entry.calls + 1
        return Welcome(seconds)

    def _remove(self, name: str, reason: str) -> None:
        del self._entries[name]
        self._pool.leave(name, reason)
        with logs.about(worker=name):
            logging.info("The worker is out of the run: %s.", reason)


@contextlib.contextmanager
def open_registry(
    pool: Pool,
    connect: Callable[[str, str], WorkerLink],
    transport: Transport | None = None,
    port: int = 0,
) -> Iterator[Registry]:
    """A registry that listens at `port` while the block runs, if workers call by a transport.

    It then stays for a moment, to tell workers that the run is over or interrupted.

    Raises:
        UserError: the port is taken.
    """
    keep_spare_files()
    registry = Registry(pool, connect, max_workers())
    listener = transport.listen(logs.carried(registry.handle), port) if transport else None
    ended = threading.Event()

    def sweep() -> None:
        while not ended.wait(_SWEEP_SECONDS):
            registry.sweep()

    sweeper = threading.Thread(target=logs.carried(sweep), name="registry", daemon=True)
    sweeper.start()
    reason, is_over, returns = "The run is over.", True, False
    try:
        yield registry
    except (Interrupted, KeyboardInterrupt):
        reason, is_over = "The run was interrupted.", False
        raise
    except TemporaryError:
        returns = True  # something restarts the coordinator; workers wait, as when it is killed
        raise
    finally:
        ended.set()
        sweeper.join()
        if not returns:
            registry.close(reason, is_over)
            registry.wait_until_all_know(3 * registry.heartbeat_seconds)
        if listener is not None:
            listener.close()
