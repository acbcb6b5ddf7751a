"""Publishes a session's status, evaluations and pool to the live page."""

import os
import time

import numpy as np

from kipper.common.labels import are_classes
from kipper.server.algorithms.algorithm import Algorithm
from kipper.server.experiment import Experiment
from kipper.server.pool import Pool
from kipper.server.records import Evaluation, Json
from kipper.server.status import Status
from kipper.server.watch.run_view import ShownImages
from kipper.server.watch.watch import Watch
from kipper.server.workdir import Workdir


class Showing:
    """Makes a watch's snapshots; only the thread that runs the pool may use it.

    Attributes:
        pool: the pool of the session, once it has one.

    Args:
        watch: None if the run has no live page; then nothing is published.
    """

    def __init__(
        self,
        watch: Watch | None,
        algorithm: Algorithm,
        experiment: Experiment,
        workdir: Workdir,
    ):
        self.pool: Pool | None = None
        self._watch = watch
        self._algorithm = algorithm
        self._experiment = experiment
        self._workdir = workdir
        self._records: tuple[Json, ...] = ()
        self._read: tuple[int, int] | None = None

    def status_changed(self, status: Status) -> None:
        """Publishes a snapshot, unless the last one is recent and the state the same."""
        watch = self._watch
        if watch is None or watch.is_broken:
            return
        has_changed = status.state != watch.newest.status["state"]
        if has_changed or watch.is_due(time.monotonic()):
            try:
                self._publish(watch, status)
            except Exception:
                watch.disable()

    def _publish(self, watch: Watch, status: Status) -> None:
        # Not before: a run that resumes first drops the records that it is going to repeat.
        if status.step is not None or status.rows is not None:
            self._read_records()
        scheduler = self.pool.scheduler if self.pool is not None else None
        now, unix = time.monotonic(), time.time()
        watch.publish(now, unix, status.record(), scheduler, self._records, self._natural())

    def evaluated(self, step: int, images: np.ndarray, labels: np.ndarray) -> ShownImages:
        """Shows the images (n, h, w, c) of an evaluation, with labels (n, C)."""
        experiment = self._experiment
        classes = None
        if are_classes(experiment.support_labels):
            # A distilled set given with --initial may have other classes.
            is_natural = not any(self._algorithm.settings.input_files.values())
            classes = experiment.support_labels if is_natural else labels.argmax(1)
        names, learned = tuple(experiment.class_names), self._algorithm.labels_learned
        shown = ShownImages(step, images, classes, names, learned)
        if self._watch is not None:
            self._watch.evaluated(shown)
        return shown

    def _read_records(self) -> None:
        """Reads metrics.jsonl if it has changed; known records stay the same objects."""
        try:
            found = os.stat(self._workdir.metrics)
        except OSError:
            return
        if (found.st_mtime_ns, found.st_size) == self._read:
            return
        self._read = found.st_mtime_ns, found.st_size
        records = tuple(self._workdir.read_records(self._workdir.metrics))
        known = self._records
        self._records = known + records[len(known) :] if records[: len(known)] == known else records

    def _natural(self) -> float | None:
        first = Evaluation.read(self._records[0]) if self._records else None
        score = self._algorithm.natural_score(self._workdir.read_result(), first)
        return None if score is None else score.value
