"""Workers in threads of this process: requests and replies without a transport."""

import concurrent.futures
import socket
from collections.abc import Mapping

import numpy as np

from kipper.common import logs
from kipper.common.cores import usable_cores
from kipper.common.errors import Interrupted
from kipper.common.messages import Cancel, Reply, Request
from kipper.workers.row_store import RowStore
from kipper.workers.worker import Worker


class InProcessLink:
    """A `WorkerLink` to a worker in its own thread."""

    def __init__(self, name: str, worker: Worker):
        self.name = name
        self.host = socket.gethostname()
        self._worker = worker
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        """Queues the request after earlier ones; handles a `Cancel` at once.

        Raises:
            Interrupted: the program is ending and takes no more work.
        """
        if isinstance(request, Cancel):
            future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
            future.set_result(self._handle(request))
            return future
        try:
            return self._thread.submit(logs.carried(self._handle), request)
        except RuntimeError as error:
            raise Interrupted() from error

    def _handle(self, request: Request) -> Reply:
        with logs.about(worker=self.name):
            return self._worker.handle(request)

    def close(self) -> None:
        """Drops queued requests, and waits for a block in progress."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def inprocess_links(
    num_workers: int, row_sets: Mapping[str, np.ndarray], threads: int | None = None
) -> list[InProcessLink]:
    """Workers that share one store, which holds `row_sets` by key without copies.

    `threads` is for the native engine of each worker; by default the cores are divided.
    """
    store = RowStore(row_sets)
    threads = threads or max(1, usable_cores() // max(1, num_workers))
    return [InProcessLink(f"worker-{i}", Worker(store, threads)) for i in range(num_workers)]
