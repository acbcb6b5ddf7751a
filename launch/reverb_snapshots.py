"""Snapshots through a Reverb table: the coordinator writes, the evaluator reads the newest."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from kipper.launch.processes.stopping import StopRequest
from kipper.server.learned_set import LearnedSet
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
        address: the address of the Reverb server.
        scored: returns how often the run had gone back, and its step, at the snapshot that the
            evaluator scored last.
        stop: ends the waiting for the evaluator.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        address: str,
        scored: Callable[[], tuple[int, int]],
        stop: StopRequest,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._address = address
        self._scored = scored
        self._stop = stop
        self._clock = clock
        self._outbox: queue.SimpleQueue[SupportSnapshot] = queue.SimpleQueue()
        self._gone_back: tuple[int, ...] = ()
        self._last_step = -1
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def put(self, snapshot: SupportSnapshot) -> None:
        """Queues the snapshot for the table."""
        self._last_step = snapshot.step
        self._outbox.put(dataclasses.replace(snapshot, gone_back=self._gone_back))

    def resume_at(self, step: int) -> None:
        """Does nothing: the evaluator computes its scores itself."""

    def go_back(self, step: int) -> None:
        """Makes the evaluator forget its scores of a step and later, at the next snapshot."""
        self._gone_back += (step,)

    def finish(self) -> None:
        """Waits until the evaluator has scored the last snapshot, for two minutes at most.

        A call to the evaluator that is in progress then may add its own ten seconds.
        """
        deadline = self._clock() + _FINISH_SECONDS
        while self._clock() < deadline:
            last = len(self._gone_back), self._last_step
            if self._scored() >= last or self._stop.wait(_POLL_SECONDS):
                return
        logging.warning("The evaluator did not score the last snapshot; best.npz may be older.")

    def _write(self) -> None:
        import reverb

        client = reverb.Client(self._address)
        while True:
            snapshot = self._outbox.get()
            images, labels, temperature = snapshot.support
            client.insert(
                [
                    np.int64(snapshot.step),
                    images,
                    labels,
                    np.float64(snapshot.loss),
                    np.array(snapshot.gone_back, np.int64),
                    np.float64(np.nan if temperature is None else temperature),
                ],
                priorities={TABLE: 1.0},
            )


def scored_of(address: str) -> Callable[[], tuple[int, int]]:
    """A function that asks an evaluator for `EvaluatorNode.scored`; (0, -1) while it is unknown."""
    import courier
    from courier.python.client import StatusNotOk

    client = courier.Client(address, wait_for_ready=False, call_timeout=10.0)

    def scored() -> tuple[int, int]:
        try:
            times, step = client.scored()
            return int(times), int(step)
        except StatusNotOk:
            return 0, -1

    return scored


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
        step, images, labels, loss, gone_back, temperature = sample.data
        support = LearnedSet(
            np.asarray(images),
            np.asarray(labels),
            None if np.isnan(temperature) else float(temperature),
        )
        return SupportSnapshot(int(step), support, float(loss), tuple(map(int, gone_back)))
