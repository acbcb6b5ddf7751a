"""Snapshots through a Reverb table: the coordinator writes, the evaluator reads the newest."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from kipper.launch.processes.stopping import StopRequest
from kipper.server.snapshots import SupportSnapshot

TABLE = "snapshots"
_KEPT = 4
# Reverb blocks for ever on a dead server, so the wait for the last snapshot is limited.
_FINISH_SECONDS = 120.0
_POLL_SECONDS = 0.2


def snapshot_tables() -> list[Any]:
    """The table of snapshots: the newest is sampled, the oldest is removed."""
    import reverb

    return [
        reverb.Table(
            TABLE,
            sampler=reverb.selectors.Lifo(),
            remover=reverb.selectors.Fifo(),
            max_size=_KEPT,
            rate_limiter=reverb.rate_limiters.MinSize(1),
        )
    ]


class ReverbSink:
    """A `SnapshotSink` that never makes the coordinator wait.

    A thread writes, and imports Reverb, which imports TensorFlow and takes ten seconds.

    Args:
        address: of the Reverb server.
        scored_step: returns the step that the evaluator scored last; -1 for none.
        stop: ends the waiting for the evaluator.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        address: str,
        scored_step: Callable[[], int],
        stop: StopRequest,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._address = address
        self._scored_step = scored_step
        self._stop = stop
        self._clock = clock
        self._outbox: queue.SimpleQueue[SupportSnapshot] = queue.SimpleQueue()
        self._last_step = -1
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def put(self, snapshot: SupportSnapshot) -> None:
        """Queues the snapshot for the table."""
        self._last_step = snapshot.step
        self._outbox.put(snapshot)

    def finish(self) -> None:
        """Waits until the evaluator has scored the last snapshot, for two minutes at most.

        A call to the evaluator that is in progress then may add its own ten seconds.
        """
        deadline = self._clock() + _FINISH_SECONDS
        while self._clock() < deadline:
            if self._scored_step() >= self._last_step or self._stop.wait(_POLL_SECONDS):
                return
        logging.warning("The evaluator did not score the last snapshot; best.npz may be older.")

    def _write(self) -> None:
        import reverb

        client = reverb.Client(self._address)
        while True:
            snapshot = self._outbox.get()
            client.insert(
                [
                    np.int64(snapshot.step),
                    snapshot.images,
                    snapshot.labels,
                    np.float64(snapshot.loss),
                ],
                priorities={TABLE: 1.0},
            )


def scored_step_of(address: str) -> Callable[[], int]:
    """A function that returns the step that an evaluator scored last; -1 while it is unknown."""
    import courier
    from courier.python.client import StatusNotOk

    client = courier.Client(address, wait_for_ready=False, call_timeout=10.0)

    def scored_step() -> int:
        try:
            return int(client.scored_step())
        except StatusNotOk:
            return -1

    return scored_step


class ReverbSource:
    """The evaluator's end of the table."""

    def __init__(self, address: str):
        import reverb

        self._client = reverb.Client(address)
        self._inserted = 0

    def newest(self, timeout_seconds: int) -> SupportSnapshot | None:
        """The newest snapshot; None if there is no new one since the last call.

        Raises:
            RuntimeError: the server does not answer in time.
        """
        # Sampling has no time-out and blocks for ever on a dead server or an empty table, so the
        # server must first answer that there is a new snapshot.
        table = self._client.server_info(timeout=timeout_seconds)[TABLE]
        inserted = table.rate_limiter_info.insert_stats.completed
        if inserted == self._inserted:
            return None
        self._inserted = inserted
        (sample,) = next(iter(self._client.sample(TABLE, 1)))
        step, images, labels, loss = sample.data
        return SupportSnapshot(int(step), np.asarray(images), np.asarray(labels), float(loss))
