"""A worker behind a transport: bytes in, bytes out."""

import threading

from absl import logging

from kipper.common import wire
from kipper.common.messages import DAMAGED, REFUSED, Configure, Failure, Request
from kipper.workers.worker import Worker


class WorkerService:
    """The interface that transports expose. A Courier node exposes every public attribute.

    Args:
        threads: the number that a native engine may use, as for `Worker`.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._worker = Worker(threads=threads)
        self._refusal: str | None = None
        self._run: str | None = None
        self._under_way = 0
        self._changed = threading.Condition()

    def refusal(self) -> str | None:
        """Why this worker refused its coordinator's last configuration; None if it did not."""
        return self._refusal

    def run(self) -> str | None:
        """The name of the run that this worker was last configured for, if any."""
        return self._run

    def is_idle(self, within: float) -> bool:
        """Waits up to `within` seconds until no request is under way; returns whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._under_way == 0, within)

    def handle(self, payload: bytes) -> bytes:
        """Answers one encoded request, and other bytes with a `Failure`."""
        with self._changed:
            self._under_way += 1
        try:
            return self._answer(payload)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _answer(self, payload: bytes) -> bytes:
        try:
            request = wire.decode(payload)
        except wire.WireError as error:
            return _refusal(str(error))
        if not isinstance(request, Request):
            return _refusal(f"A worker expects a request, not a {type(request).__name__}.")
        reply = self._worker.handle(request)
        if isinstance(request, Configure):
            self._refusal, self._run = None, request.run
            if isinstance(reply, Failure) and reply.kind == REFUSED:
                self._refusal = reply.message
        return wire.encode(reply)


def _refusal(message: str) -> bytes:
    logging.warning("Refused a damaged message: %s", message)
    return wire.encode(Failure(kind=DAMAGED, message=message))
