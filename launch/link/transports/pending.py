"""Shared by the channels of both transports: futures that may be cancelled at any moment."""

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable

from kipper.launch.link.transports.transport import MAX_MESSAGE_BYTES, ChannelError

Future = concurrent.futures.Future


class PendingCalls:
    """The calls in flight of one channel.

    Settling a future that was cancelled meanwhile does nothing. The standard library raises then,
    and gRPC's threads abort at exceptions.
    """

    def __init__(self, address: str):
        self._address = address
        # Re-entrant: a call may fail while it is being sent.
        self._lock = threading.RLock()
        self._futures: set[Future[bytes]] = set()
        self._closed = False

    def begin(
        self, payload: bytes, send: Callable[["Future[bytes]"], Callable[[], object]]
    ) -> "Future[bytes]":
        """A future of the call that `send` makes; `send` returns a function that cancels it.

        `send` is called under a lock, so that no call is made after `close`.
        """
        future: Future[bytes] = Future()
        if len(payload) > MAX_MESSAGE_BYTES:
            future.set_exception(ChannelError(too_large("request", len(payload))))
            return future
        with self._lock:
            if self._closed:
                future.set_exception(ChannelError(f"The channel to {self._address} is closed."))
                return future
            self._futures.add(future)
            try:
                cancel = send(future)
            except Exception as error:
                self._futures.discard(future)
                future.set_exception(ChannelError(f"Nothing was sent: {error}."))
                return future
        future.add_done_callback(lambda done: cancel() if done.cancelled() else None)
        return future

    def answer(self, future: "Future[bytes]", payload: bytes) -> None:
        """Ends the future in an answer."""
        if type(payload) is not bytes:  # Courier's peer may send any object
            self.fail(future, f"answered with a {type(payload).__name__} instead of bytes")
            return
        self._end(future)
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            future.set_result(payload)

    def fail(
        self, future: "Future[bytes]", reason: str, error: type[ChannelError] = ChannelError
    ) -> None:
        """Ends the future in an `error`."""
        self._end(future)
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            future.set_exception(error(f"{self._address}: {reason}"))

    def close(self) -> bool:
        """Cancels all calls and refuses new ones; returns whether this was the first time."""
        with self._lock:
            first, self._closed = not self._closed, True
            futures, self._futures = list(self._futures), set()
        for future in futures:
            future.cancel()
        return first

    def _end(self, future: "Future[bytes]") -> None:
        with self._lock:
            self._futures.discard(future)


def too_large(what: str, size: int) -> str:
    """The error for a message that is too large for both transports."""
    return f"A {what} of {size} bytes is larger than the maximum of {MAX_MESSAGE_BYTES}."


def checked(handle: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """`handle` with checks of the type and size of its argument and result."""

    def handle_checked(payload: bytes) -> bytes:
        if type(payload) is not bytes:
            raise TypeError(f"handle takes bytes, not {type(payload).__name__}")
        answer = handle(payload)
        if type(answer) is not bytes:
            raise TypeError(f"handle answers bytes, not {type(answer).__name__}")
        if len(answer) > MAX_MESSAGE_BYTES:
            raise ValueError(too_large("reply", len(answer)))
        return answer

    return handle_checked
