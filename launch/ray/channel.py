"""Bytes to and from an actor, as any transport carries them."""

import concurrent.futures
from collections.abc import Callable

import ray
from ray.actor import ActorHandle

from kipper.launch.link.transports.pending import Future, PendingCalls
from kipper.launch.link.transports.threads import DaemonThreads
from kipper.launch.ray.words import reason_of

_threads = DaemonThreads("ray-call")


class RayChannel:
    """A `Channel` to an actor. A call to a dead actor fails; the actor of another life is another.

    Closing it leaves the actor as it is.
    """

    def __init__(self, name: str, actor: ActorHandle):
        self._actor = actor
        self._calls = PendingCalls(name)

    def submit(self, payload: bytes) -> "concurrent.futures.Future[bytes]":
        def send(future: "Future[bytes]") -> Callable[[], object]:
            answer = self._actor.handle.remote(payload)
            # A future of Ray's client blocks its connection for good.
            call = _threads.submit(ray.get, answer) if is_client() else answer.future()
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


def is_client() -> bool:
    """Whether this process speaks to the cluster by ray://, from outside."""
    return bool(ray.util.client.ray.is_connected())
