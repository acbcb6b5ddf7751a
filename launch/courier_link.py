"""A `WorkerLink` over Courier, built so that no failure of the peer can take this process down."""

import concurrent.futures
import datetime
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import courier
from courier.python.client import StatusNotOk, translate_status

from kipper.common import wire
from kipper.common.errors import WorkerError
from kipper.common.messages import Reply, Request

# When a block is late is the dispatcher's business. This deadline only makes sure that a call to a
# host which vanished without a word ends at all.
_CALL_SECONDS = 3600.0


class CourierLink:
    """A worker behind a Courier address, which must be listening already.

    Courier's own futures abort the process when a result meets a cancelled future, or when the
    client is dropped with calls in flight; so results are taken by callbacks that tolerate both.
    """

    def __init__(self, name: str, address: str):
        self.name = name
        # Not waiting for readiness: a waiting call would silently run again on a restarted server.
        self._client: Any = courier.Client(address, wait_for_ready=False)
        self._lock = threading.Lock()
        self._in_flight: set[concurrent.futures.Future[Reply]] = set()

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        """Sends the request as bytes; the future fails if the worker cannot be reached."""
        future: concurrent.futures.Future[Reply] = concurrent.futures.Future()

        def answered(payload: bytes) -> None:
            self._settle(future, lambda: future.set_result(_decode_reply(payload)))

        def failed(status: Any) -> None:
            self._settle(future, lambda: future.set_exception(translate_status(status)))

        with self._lock:
            if self._client is None:
                future.set_exception(WorkerError(f"The link to {self.name} is closed."))
                return future
            self._in_flight.add(future)
            canceller = self._client._client.AsyncPyCall(
                "handle",
                [wire.encode(request)],  # bytes alone: an array would hang the server for ever
                {},
                answered,
                failed,
                False,  # wait_for_ready
                datetime.timedelta(seconds=_CALL_SECONDS),
                False,  # compress
                False,  # chunk_tensors
            )
        future.add_done_callback(lambda done: canceller.Cancel() if done.cancelled() else None)
        return future

    def close(self) -> None:
        """Cancels what is in flight; the worker finishes it unheard."""
        with self._lock:
            futures, client, self._client = list(self._in_flight), self._client, None
        for future in futures:
            future.cancel()
        del client  # outside the lock: it waits for the cancelled calls' callbacks

    def _settle(
        self, future: "concurrent.futures.Future[Reply]", settle: Callable[[], None]
    ) -> None:
        with self._lock:
            self._in_flight.discard(future)
        try:
            settle()
        except concurrent.futures.InvalidStateError:
            pass  # cancelled in the meantime
        except wire.WireError as error:
            future.set_exception(error)


def _decode_reply(payload: bytes) -> Reply:
    return wire.decode(payload)  # type: ignore[return-value]


def connect(
    name: str, address: str, seconds: float, should_stop: Callable[[], bool]
) -> CourierLink:
    """A link to a worker that may still be starting.

    Probes with plain TCP: a Courier call to a closed port would start gRPC's back-off, which then
    delays the first call that could succeed by up to half a minute.

    Raises:
        WorkerError: nothing listened there for `seconds`, or `should_stop()` became true.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not should_stop():
        try:
            socket.create_connection((host, int(port)), 0.5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return CourierLink(name, address)
    raise WorkerError(f"Worker {name} did not start to listen at {address} within {seconds:.0f} s.")


def scored_step_of(address: str) -> Callable[[], int]:
    """Asks an evaluator at `address` which step it scored last; -1 while it does not answer."""
    client = courier.Client(address, wait_for_ready=False, call_timeout=10.0)

    def scored_step() -> int:
        try:
            return int(client.scored_step())
        except StatusNotOk:
            return -1

    return scored_step
