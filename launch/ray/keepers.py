"""Keeps an actor for each worker of a run: makes it, speaks for it to the registry, replaces it.

An actor is made with max_restarts=0 and replaced here, instead of being restarted by Ray. A
restarted actor would have lost its rows behind the handle that the link holds, and get blocks
before the coordinator knew. So each handle is one process, like each incarnation of the registry.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import ray
from absl import logging
from ray.actor import ActorHandle

from kipper.common import logs, wire
from kipper.common.errors import KipperError, UserError
from kipper.common.messages import Answer, Call, Failure, Hello
from kipper.launch.link.registration import Registration, Unreachable
from kipper.launch.link.registry import Registry
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import Deaths, GaveUp, Limits
from kipper.launch.ray.channel import RayChannel
from kipper.launch.ray.words import missing_module, reason_of

# Time until an actor's silence is reported to the registry, and until the worker gets another
# actor.
_BEAT_SECONDS, _SILENT_SECONDS = 10.0, 60.0
# Time until an actor that Ray has not started counts as waiting, and between two messages about
# that.
_PLACE_SECONDS, _SECONDS_BETWEEN_WORDS = 15.0, 60.0
_CENSUS_SECONDS, _POLL_SECONDS = 5.0, 0.5


class ActorGone(KipperError):
    """The actor has ended, or cannot be heard."""


class Keepers:
    """A keeper for each worker, each in its own thread.

    Args:
        make: makes an actor for a worker of a name, which Ray places when it can.
        wanted: returns the number of workers that there should be now.
        why_waiting: says why a number of workers, of so many, is not placed.
        fail: called with the error if no worker can be kept any more.
        limits: when an actor that dies is given up.
    """

    def __init__(
        self,
        make: Callable[[str], ActorHandle],
        wanted: Callable[[], int],
        why_waiting: Callable[[int, int], str],
        fail: Callable[[KipperError], None],
        limits: Limits | None = None,
    ):
        self._make = make
        self._wanted = wanted
        self._why_waiting = why_waiting
        self._fail = fail
        self._limits = limits or Limits()
        self._keepers: dict[str, _Keeper] = {}
        self._is_over = False
        self._changing = threading.Lock()
        self._said: tuple[float, int] = float("-inf"), 0  # when, and how many waited

    @contextlib.contextmanager
    def keeping(self, prefix: str, registry: Registry) -> Iterator[None]:
        """Keeps workers PREFIX0, PREFIX1, … in the run while the block runs; then kills them."""
        over = threading.Event()

        def count() -> None:
            while not over.wait(_CENSUS_SECONDS):
                take()

        def take() -> None:
            try:
                self._take_census(prefix, registry)
            except Exception as error:  # Ray's client raises those of gRPC, and bare ones
                if not over.is_set():
                    logging.warning("Ray does not say which nodes it has: %s.", reason_of(error))

        take()
        census = threading.Thread(target=logs.carried(count), name="census", daemon=True)
        census.start()
        try:
            yield
        finally:
            over.set()
            with self._changing:  # a census that waits for a silent Ray adds no keeper later
                self._is_over = True
            census.join(_CENSUS_SECONDS)
            for keeper in self._keepers.values():
                keeper.stop.ask()
            for keeper in self._keepers.values():
                keeper.thread.join()

    def channel(self, name: str) -> RayChannel | None:
        """A channel to the present actor of a worker; None if no worker of that name is kept."""
        keeper = self._keepers.get(name)
        actor = keeper.actor if keeper is not None else None
        return RayChannel(name, actor) if actor is not None else None

    def _take_census(self, prefix: str, registry: Registry) -> None:
        """Adds keepers, or ends some that still wait, so that there are as many as wanted.

        Raises:
            Exception: Ray does not report its resources.
        """
        wanted = self._wanted()
        with self._changing:
            if self._is_over:
                return
            kept = [keeper for keeper in self._keepers.values() if not keeper.stop.is_asked()]
            waiting = [keeper for keeper in kept if keeper.is_waiting()]
            for keeper in waiting[: max(0, len(kept) - wanted)]:
                keeper.stop.ask()
            names = (f"{prefix}{number}" for number in range(wanted))
            free = [name for name in names if not self._is_kept(name)]
            for name in free[: max(0, wanted - len(kept))]:
                self._keepers[name] = _Keeper(name, self._make, registry, self._limits, self._ended)
        self._tell_of_waiting(min(len(waiting), wanted), wanted)

    def _is_kept(self, name: str) -> bool:
        """Whether a name has a keeper, or had one that found that no actor can have it."""
        keeper = self._keepers.get(name)
        return keeper is not None and (keeper.thread.is_alive() or keeper.error is not None)

    def _ended(self) -> None:
        """Ends the run if no worker can be kept."""
        keepers = list(self._keepers.values())
        errors = [keeper.error for keeper in keepers if keeper.error is not None]
        if errors and len(errors) == len(keepers):
            self._fail(errors[-1])

    def _tell_of_waiting(self, waiting: int, wanted: int) -> None:
        at, before = self._said
        now = time.monotonic()
        if waiting and waiting != before and now - at > _SECONDS_BETWEEN_WORDS:
            self._said = now, waiting
            logging.warning("%s", self._why_waiting(waiting, wanted))
        if not waiting:
            self._said = at, 0


class _Keeper:
    """Keeps an actor for one worker, until asked to stop or the worker can have none.

    Attributes:
        actor: the present one, once it has said hello.
        error: why the worker can have no actor.
        stop: asks the keeper to stop.
        thread: ends then.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[str], ActorHandle],
        registry: Registry,
        limits: Limits,
        ended: Callable[[], None],
    ):
        self.actor: ActorHandle | None = None
        self.error: KipperError | None = None
        self.stop = StopRequest()
        self._name = name
        self._make = make
        self._registry = registry
        self._limits = limits
        self._ended = ended
        self._asked_at: float | None = time.monotonic()  # None while there is an actor
        self.thread = threading.Thread(target=logs.carried(self._keep), name=f"keeper-{name}")
        self.thread.start()

    def is_waiting(self) -> bool:
        """Whether Ray has had time to place the actor and has not."""
        return self._asked_at is not None and time.monotonic() - self._asked_at > _PLACE_SECONDS

    def _keep(self) -> None:
        logs.now_about(worker=self._name)
        deaths = Deaths(self._limits)
        while not self.stop.is_asked():
            born = time.monotonic()
            self._asked_at = born
            actor: ActorHandle | None = None
            try:
                actor = self._make(self._name)
                hello = self._first_words(actor)
                if hello is None:
                    return
                born = time.monotonic()
                self._asked_at, self.actor = None, actor
                self._stay(actor, hello)
                return
            except UserError as error:
                logging.warning("The worker takes no part: %s", error)
                self.error = error
            except Exception as error:  # Ray's client raises those of gRPC, and bare ones
                pause, reason = deaths.add(time.monotonic() - born), reason_of(error)
                if pause is not None:
                    logging.warning("The worker's actor ended: %s; another is made.", reason)
                    self.stop.wait(pause)
                    continue
                times = f"{self._limits.short_lives} times in a row"
                self.error = GaveUp(f"The actor of {self._name} ended {times}, at last: {reason}.")
            finally:
                self.actor = None
                if actor is not None:
                    with contextlib.suppress(Exception):
                        ray.kill(actor)
            self._ended()
            return

    def _first_words(self, actor: ActorHandle) -> Hello | None:
        """The actor's first message, once Ray has placed and started it; None when asked to stop.

        Raises:
            UserError: the actor cannot take part.
            ActorGone: it died.
        """
        saying = actor.hello.remote()
        while not self._is_answered(saying, _PLACE_SECONDS):
            if self.stop.is_asked():
                return None
        try:
            said = wire.decode(ray.get(saying))
        except wire.WireError as error:
            raise UserError(
                f"Ray's node has another version of kipper ({error}); install the same on all."
            ) from error
        except ray.exceptions.RayError as error:
            module = missing_module(error)
            if module is None:
                raise ActorGone(reason_of(error)) from error
            raise UserError(
                f"a node of the Ray cluster has no module {module}; install the same kipper into "
                "the Python of every node, as on this machine."
            ) from error
        if isinstance(said, Hello):
            return said
        raise UserError(said.message if isinstance(said, Failure) else f"It says {said!r:.100}.")

    def _stay(self, actor: ActorHandle, hello: Hello) -> None:
        """Speaks for the actor to the registry until the run is over.

        Raises:
            UserError: the registry refuses it.
            TemporaryError: it was set aside; another one may join later.
            ActorGone: it died.
        """
        heard = time.monotonic()

        def ask(call: Call) -> Answer:
            nonlocal heard
            try:
                self._listen(actor)
            except Unreachable as error:
                if time.monotonic() - heard > _SILENT_SECONDS:
                    raise ActorGone(str(error)) from error
                raise
            heard = time.monotonic()
            question = hello if isinstance(call, Hello) else call
            answer = wire.decode(self._registry.handle(wire.encode(question)))
            assert isinstance(answer, Answer)
            return answer

        reason = "the run has ended"
        registration = Registration(
            ask, self._name, hello.incarnation, lambda: hello.address, None, self.stop
        )
        try:
            registration.stay()
        except KipperError as error:
            reason = str(error)
            raise
        finally:
            self._registry.gone(self._name, hello.incarnation, reason)

    def _listen(self, actor: ActorHandle) -> None:
        """Waits for a sign of life.

        Raises:
            Unreachable: there is none; the registry gives the worker up if that lasts.
            ActorGone: the actor is dead.
        """
        beat = actor.beat.remote()
        if not self._is_answered(beat, _BEAT_SECONDS):
            raise Unreachable(f"no sign of life within {_BEAT_SECONDS:.0f} s")
        try:
            ray.get(beat)
        except ray.exceptions.ActorUnavailableError as error:
            raise Unreachable(reason_of(error)) from error
        except ray.exceptions.RayError as error:
            raise ActorGone(reason_of(error)) from error

    def _is_answered(self, call: ray.ObjectRef, seconds: float) -> bool:
        """Waits for the end of a call, at most `seconds` and until asked to stop."""
        end = time.monotonic() + seconds
        while not (ended := bool(ray.wait([call], timeout=_POLL_SECONDS)[0])):
            if self.stop.is_asked() or time.monotonic() > end:
                break
        return ended
