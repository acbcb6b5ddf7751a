"""Workers in this process: the same requests and replies, without bytes or Courier."""

import concurrent.futures
import os
import socket
from collections.abc import Mapping

import numpy as np

from kipper.common import logs
from kipper.common.messages import Cancel, Reply, Request
from kipper.workers.row_store import RowStore
from kipper.workers.worker import Worker


class InProcessLink:
    """A `WorkerLink` to a worker with a thread of its own."""

    def __init__(self, name: str, worker: Worker):
        self.name = name
        self.host = socket.gethostname()
        self._worker = worker
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        """Queues the request behind the earlier ones; a `Cancel` goes ahead of them."""
        if isinstance(request, Cancel):
            future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
            future.set_result(self._handle(request))
            return future
        return self._thread.submit(logs.carried(self._handle), request)

    def _handle(self, request: Request) -> Reply:
        with logs.about(worker=self.name):
            return self._worker.handle(request)

    def close(self) -> None:
        """Drops what is queued; a block being computed ends in its own time."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def inprocess_links(
    num_workers: int, row_sets: Mapping[str, np.ndarray], threads: int | None = None
) -> list[InProcessLink]:
    """Workers that share one store, which already holds `row_sets` by key, without a copy.

    `threads` is how many a native engine of each may use; its share of the cores if not given.
    """
    store = RowStore(row_sets)
    threads = threads or max(1, (os.cpu_count() or 1) // max(1, num_workers))
    return [InProcessLink(f"worker-{i}", Worker(store, threads)) for i in range(num_workers)]
