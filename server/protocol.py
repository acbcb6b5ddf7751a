"""The coordinator's interface to a worker, independent of the transport."""

import concurrent.futures
from typing import Protocol

from kipper.common.messages import Reply, Request


class WorkerLink(Protocol):
    """One worker, in this process or another.

    `host` is the machine it runs on, for display.
    """

    name: str
    host: str

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        """Sends a request and returns at once; replies may come in any order.

        The future always completes: with the worker's reply, which may be a `Failure`, or with an
        exception if request or reply was lost.
        """
        ...

    def close(self) -> None:
        """Abandons all requests in progress."""
        ...
