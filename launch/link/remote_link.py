"""A link to a worker in another process: sends requests and receives replies as bytes."""

import concurrent.futures
import contextlib

from kipper.common import wire
from kipper.common.messages import Reply, Request
from kipper.launch.link.transports.transport import Channel


class RemoteLink:
    """A `WorkerLink` over a channel of any transport, which it closes."""

    def __init__(self, name: str, channel: Channel, host: str = ""):
        self.name = name
        self.host = host
        self._channel = channel

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        """Like `WorkerLink.submit`; also fails if a message cannot be encoded or decoded."""
        future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        try:
            payload = wire.encode(request)
        except wire.WireError as error:
            future.set_exception(error)
            return future
        call = self._channel.submit(payload)
        call.add_done_callback(lambda done: _settle(future, done))
        future.add_done_callback(lambda done: call.cancel() if done.cancelled() else None)
        return future

    def close(self) -> None:
        """Cancels requests in flight; the worker still finishes them."""
        self._channel.close()


def _settle(
    future: "concurrent.futures.Future[Reply]", call: "concurrent.futures.Future[bytes]"
) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled meanwhile
        if call.cancelled():
            future.cancel()
        elif error := call.exception():
            future.set_exception(error)
        else:
            try:
                future.set_result(_reply(call.result()))
            except wire.WireError as damaged:
                future.set_exception(damaged)


def _reply(payload: bytes) -> Reply:
    message = wire.decode(payload)
    if not isinstance(message, Reply):
        raise wire.WireError(f"A worker answered with a {type(message).__name__}.")
    return message
