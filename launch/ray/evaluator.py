"""Scores snapshots by an actor that does nothing else, beside the run.

The actor computes kernel blocks, as the run's workers do. The regression and the files are in a
thread of the coordinator's process, so that the actor may be on any node.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from absl import logging

from kipper.common import logs
from kipper.common.errors import Interrupted, KipperError
from kipper.launch.processes.stopping import StopRequest
from kipper.server.snapshots import BestKeeper, SupportSnapshot

_POLL_SECONDS = 0.2

# Opens the keeper that scores snapshots and keeps the best. Its argument is called at least once a
# second while it scores, and ends that by raising `Interrupted`.
Scoring = Callable[[Callable[[], None]], AbstractContextManager[BestKeeper]]


class EvaluatorSink:
    """A `SnapshotSink` that never makes the coordinator wait: the newest snapshot is scored next.

    Args:
        scoring: entered in the sink's thread, and again after a failure.
        stop: ends the waiting for the last score.
    """

    def __init__(self, scoring: Scoring, stop: StopRequest):
        self._scoring = scoring
        self._stop = stop
        self._newest: SupportSnapshot | None = None
        self._go_back_to: int | None = None
        self._is_busy = self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=logs.carried(self._run), name="evaluator")
        self._thread.start()

    def put(self, snapshot: SupportSnapshot) -> None:
        """Has the snapshot scored, unless a newer one comes first."""
        with self._changed:
            self._newest = snapshot
            self._changed.notify_all()

    def resume_at(self, step: int) -> None:
        """Does nothing: the evaluator's actor computes its scores itself."""

    def go_back(self, step: int) -> None:
        """Forgets the snapshots of a step and later, before the next one is scored."""
        with self._changed:
            if self._newest is not None and self._newest.step >= step:
                self._newest = None
            earlier = self._go_back_to
            self._go_back_to = step if earlier is None else min(step, earlier)
            self._changed.notify_all()

    def finish(self) -> None:
        """Waits until the last snapshot has been scored or given up, or the run is to stop."""
        while self._is_behind() and not self._stop.wait(_POLL_SECONDS):
            pass

    def close(self) -> None:
        """Ends the scoring."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def _is_behind(self) -> bool:
        with self._changed:
            return self._is_busy or self._newest is not None or self._go_back_to is not None

    def _run(self) -> None:
        logs.now_about(node="evaluator")
        while not self._is_closed:
            try:
                with self._scoring(self._check_open) as keeper:
                    while self._wait_for_work():
                        self._do_work(keeper)
            except Interrupted:
                pass
            except KipperError as error:
                logging.warning("A snapshot was not scored, so best.npz may be older: %s", error)
            finally:
                self._is_busy = False

    def _wait_for_work(self) -> bool:
        """Waits for work, and begins it; returns False once the sink is closed."""
        with self._changed:
            self._is_busy = False
            self._changed.wait_for(
                lambda: self._is_closed or self._newest or self._go_back_to is not None
            )
            self._is_busy = not self._is_closed
            return self._is_busy

    def _do_work(self, keeper: BestKeeper) -> None:
        with self._changed:
            step, self._go_back_to = self._go_back_to, None
            snapshot, self._newest = self._newest, None
        if step is not None:
            keeper.go_back(step)
        if snapshot is not None:
            keeper.put(snapshot)

    def _check_open(self) -> None:
        if self._is_closed:
            raise Interrupted()


@contextlib.contextmanager
def evaluating(scoring: Scoring) -> Iterator[Callable[[StopRequest], EvaluatorSink]]:
    """Makes a sink, which is closed at the end of the block."""
    with contextlib.ExitStack() as stack:

        def make_sink(stop: StopRequest) -> EvaluatorSink:
            sink = EvaluatorSink(scoring, stop)
            stack.callback(sink.close)
            return sink

        yield make_sink
