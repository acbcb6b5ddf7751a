"""How the coordinator sees a worker, whatever carries the messages."""

import concurrent.futures
from typing import Protocol

from kipper.common.messages import Reply, Request


class WorkerLink(Protocol):
    """One worker, in this process or another.

    `submit` returns at once. The future ends in the worker's reply (which may be a `Failure`), or
    in an exception, which means that question or answer was lost; it always ends.
    `host` is where the worker runs, for people.
    """

    name: str
    host: str

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        """Sends one request; requests need not be answered in order."""
        ...

    def close(self) -> None:
        """Gives up whatever is still under way."""
        ...
