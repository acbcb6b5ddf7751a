"""Keeps an actor for each worker of a run: makes it, speaks for it to the registry, replaces it.

An actor is made with max_restarts=0 and made anew here, instead of being restarted by Ray: a
restarted one would be blank behind the handle that the link holds, and be sent blocks before the
coordinator knew. So each handle is one process, as each incarnation of the registry is.
"""

import contextlib
import dataclasses
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
from kipper.launch.ray.channel import RayChannel, one_line

_BEAT_SECONDS = 10.0
_PLACE_SECONDS = 30.0
_POLL_SECONDS = 0.5


class ActorGone(KipperError):
    """The actor has ended."""


@dataclasses.dataclass(frozen=True)
class _Life:
    """An actor, and its first words."""

    actor: ActorHandle
    hello: Hello


class Keepers:
    """A thread for each worker, which keeps an actor in the run.

    Args:
        make: makes an actor for a worker of a name, which Ray places when it can.
        fail: called with the error if no worker can be kept any more.
        limits: when an actor that dies is given up.
    """

    def __init__(
        self,
        make: Callable[[str], ActorHandle],
        fail: Callable[[KipperError], None],
        limits: Limits | None = None,
    ):
        self._make = make
        self._fail = fail
        self._limits = limits or Limits()
        self._stop = StopRequest()
        self._lives: dict[str, _Life] = {}
        self._kept: set[str] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def keeping(self, names: list[str], registry: Registry) -> Iterator[None]:
        """Keeps an actor for each name in the run while the block runs; then they are killed."""
        self._kept = set(names)
        threads = [
            threading.Thread(
                target=logs.carried(self._keep), args=(name, registry), name=f"keeper-{name}"
            )
            for name in names
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.ask()
            for thread in threads:
                thread.join()

    def channel(self, name: str) -> RayChannel:
        """A channel to the present actor of a worker that has said hello."""
        return RayChannel(name, self._lives[name].actor)

    def _keep(self, name: str, registry: Registry) -> None:
        logs.now_about(worker=name)
        deaths = Deaths(self._limits)
        while not self._stop.is_asked():
            born = time.monotonic()
            actor = self._make(name)
            try:
                hello = self._first_words(actor)
                if hello is None:
                    return
                self._lives[name] = _Life(actor, hello)
                born = time.monotonic()
                self._stay(name, registry)
                break
            except UserError as error:
                logging.warning("The worker takes no part: %s", error)
                self._give_up(name, error)
                return
            except KipperError as error:
                if (life := self._lives.pop(name, None)) is not None:
                    registry.gone(name, life.hello.incarnation, str(error))
                pause = deaths.add(time.monotonic() - born)
                if pause is None:
                    many = f"Worker {name} died {self._limits.short_lives} times in a row"
                    self._give_up(name, GaveUp(f"{many}; the last time: {error}"))
                    return
                logging.warning("The worker's actor ended (%s); another one is made.", error)
                self._stop.wait(pause)
            finally:
                ray.kill(actor)
        if (life := self._lives.pop(name, None)) is not None:
            registry.gone(name, life.hello.incarnation, "the run has ended")

    def _give_up(self, name: str, error: KipperError) -> None:
        """Ends the run with `error` if no other worker is kept."""
        with self._lock:
            self._kept.discard(name)
            if not self._kept:
                self._fail(error)

    def _first_words(self, actor: ActorHandle) -> Hello | None:
        """What the actor says once Ray has placed and started it; None when asked to stop.

        Raises:
            UserError: the actor cannot take part.
            ActorGone: it died.
        """
        saying = actor.hello.remote()
        while not self._answered(saying, _PLACE_SECONDS):
            if self._stop.is_asked():
                return None
        try:
            said = wire.decode(ray.get(saying))
        except wire.WireError as error:
            raise UserError(
                f"Ray's node has another version of kipper ({error}); install the same on all."
            ) from error
        except ray.exceptions.RayError as error:
            raise ActorGone(one_line(error)) from error
        if isinstance(said, Hello):
            return said
        raise UserError(said.message if isinstance(said, Failure) else f"It says {said!r:.100}.")

    def _stay(self, name: str, registry: Registry) -> None:
        """Speaks for the actor of a name to the registry until it ends, or the run does.

        Raises:
            UserError: the registry refuses it.
            TemporaryError: it was set aside; another one may join later.
            ActorGone: it died.
        """
        life = self._lives[name]

        def ask(call: Call) -> Answer:
            self._listen(life.actor)
            question = life.hello if isinstance(call, Hello) else call
            answer = wire.decode(registry.handle(wire.encode(question)))
            assert isinstance(answer, Answer)
            return answer

        Registration(
            ask, name, life.hello.incarnation, lambda: life.hello.address, None, self._stop
        ).stay()

    def _listen(self, actor: ActorHandle) -> None:
        """Waits for a sign of life.

        Raises:
            Unreachable: there is none; the registry gives the worker up if that lasts.
            ActorGone: the actor is dead.
        """
        beat = actor.beat.remote()
        if not self._answered(beat, _BEAT_SECONDS):
            raise Unreachable(f"no sign of life within {_BEAT_SECONDS:.0f} s")
        try:
            ray.get(beat)
        except ray.exceptions.ActorUnavailableError as error:
            raise Unreachable(one_line(error)) from error
        except ray.exceptions.RayError as error:
            raise ActorGone(one_line(error)) from error

    def _answered(self, call: ray.ObjectRef, seconds: float) -> bool:
        """Waits for the end of a call, at most `seconds` and until asked to stop."""
        end = time.monotonic() + seconds
        while not (ended := bool(ray.wait([call], timeout=_POLL_SECONDS)[0])):
            if self._stop.is_asked() or time.monotonic() > end:
                break
        return ended
