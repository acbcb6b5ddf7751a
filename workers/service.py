"""A worker behind a transport: one function, bytes in and bytes out."""

import threading

from absl import logging

from kipper.common import wire
from kipper.common.messages import DAMAGED, REFUSED, Configure, Failure, Request
from kipper.workers.worker import Worker


class WorkerService:
    """What a transport exposes; of a Courier node, every public attribute is.

    Args:
        threads: as of `Worker`.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._worker = Worker(threads=threads)
        self._refusal: str | None = None
        self._run: str | None = None
        self._under_way = 0
        self._changed = threading.Condition()

    def refusal(self) -> str | None:
        """Why this worker cannot compute for its coordinator, once it has said so."""
        return self._refusal

    def run(self) -> str | None:
        """The name of the run that this worker computes for, once it has been told."""
        return self._run

    def is_idle(self, within: float) -> bool:
        """Whether no request is under way, or will be after `within` seconds at most."""
        with self._changed:
            return self._changed.wait_for(lambda: self._under_way == 0, within)

    def handle(self, payload: bytes) -> bytes:
        """Answers one encoded request; bytes that are none are answered with a `Failure`."""
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
            return _refusal(f"A worker was sent a {type(request).__name__}, which asks nothing.")
        reply = self._worker.handle(request)
        if isinstance(request, Configure):
            self._refusal, self._run = None, request.run
            if isinstance(reply, Failure) and reply.kind == REFUSED:
                self._refusal = reply.message
        return wire.encode(reply)


def _refusal(message: str) -> bytes:
    logging.warning("Refused what was received: %s", message)
    return wire.encode(Failure(kind=DAMAGED, message=message))
