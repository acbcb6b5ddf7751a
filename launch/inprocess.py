"""Workers in this process: the same requests and replies, without bytes or Courier."""

import concurrent.futures

import numpy as np

from kipper.common.messages import Reply, Request
from kipper.common.wire import content_key
from kipper.workers.row_store import RowStore
from kipper.workers.worker import Worker


class InProcessLink:
    """A `WorkerLink` to a worker with a thread of its own."""

    def __init__(self, name: str, worker: Worker):
        self.name = name
        self._worker = worker
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        """Queues the request behind the earlier ones."""
        return self._thread.submit(self._worker.handle, request)

    def close(self) -> None:
        """Drops what is queued; a block being computed ends in its own time."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def inprocess_links(num_workers: int, row_sets: list[np.ndarray]) -> list[InProcessLink]:
    """Workers that share one store, which already holds `row_sets` without a copy."""
    store = RowStore()
    for rows in row_sets:
        store.add(content_key(rows), rows)
    return [InProcessLink(f"worker-{i}", Worker(store)) for i in range(num_workers)]
