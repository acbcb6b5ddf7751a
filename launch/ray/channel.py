"""Bytes to and from an actor, as any transport carries them."""

import concurrent.futures
from collections.abc import Callable

from ray.actor import ActorHandle

from kipper.launch.link.transports.pending import Future, PendingCalls
from kipper.launch.ray.words import reason_of


class RayChannel:
    """A `Channel` to an actor. A call to a dead actor fails; the actor of another life is another.

    Closing it leaves the actor as it is.
    """

    def __init__(self, name: str, actor: ActorHandle):
        self._actor = actor
        self._calls = PendingCalls(name)

    def submit(self, payload: bytes) -> "concurrent.futures.Future[bytes]":
        def send(future: "Future[bytes]") -> Callable[[], object]:
            call: Future[bytes] = self._actor.handle.remote(payload).future()
            call.add_done_callback(lambda done: self._settle(future, done))
            return lambda: None  # the actor finishes the call, as with other transports

        return self._calls.begin(payload, send)

    def close(self) -> None:
        self._calls.close()

    def _settle(self, future: "Future[bytes]", call: "Future[bytes]") -> None:
        error = call.exception()
        if error is None:
            self._calls.answer(future, call.result())
        else:
            self._calls.fail(future, reason_of(error))
