"""A worker as a Courier service: one method, bytes in and bytes out."""

from kipper.common import wire
from kipper.common.messages import Failure
from kipper.workers.worker import Worker


class WorkerService:
    """What Courier exposes; every public attribute here can be called from the network."""

    def __init__(self) -> None:
        self._worker = Worker()

    def handle(self, payload: bytes) -> bytes:
        """Answers one encoded request; damaged bytes are answered with a `Failure`."""
        try:
            request = wire.decode(payload)
        except wire.WireError as error:
            return wire.encode(Failure(message=str(error)))
        return wire.encode(self._worker.handle(request))  # type: ignore[arg-type]
