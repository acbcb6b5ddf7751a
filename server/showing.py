"""What a session tells onlookers, from its files and its pool, whenever it says where it is."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from kipper.common.labels import are_classes
from kipper.common.settings import RunSettings
from kipper.server.experiment import Experiment
from kipper.server.pool import Pool
from kipper.server.report.run_files import natural_value
from kipper.server.watch.snapshot import ShownImages
from kipper.server.watch.watch import Watch
from kipper.server.workdir import Workdir


class Showing:
    """Makes a watch's snapshots; to be used by the thread that runs the pool.

    Attributes:
        pool: of the session, once it has one.

    Args:
        watch: None: nobody looks on, and nothing here does anything.
    """

    def __init__(
        self,
        watch: Watch | None,
        settings: RunSettings,
        experiment: Experiment,
        workdir: Workdir,
    ):
        self.pool: Pool | None = None
        self._watch = watch
        self._settings = settings
        self._experiment = experiment
        self._workdir = workdir
        self._records: tuple[dict[str, Any], ...] = ()
        self._read: tuple[int, int] | None = None

    def status_changed(self, status: Mapping[str, Any]) -> None:
        """Publishes what there is to tell, if the last time was long enough ago."""
        watch = self._watch
        if watch is None or watch.is_broken:
            return
        has_changed = status["state"] != watch.newest.status["state"]
        if has_changed or watch.is_due(time.monotonic()):
            try:
                self._publish(watch, status)
            except Exception:
                watch.stand_still()

    def _publish(self, watch: Watch, status: Mapping[str, Any]) -> None:
        if "step" in status or "rows" in status:  # a run that resumes has dropped what it repeats
            self._read_records()
        scheduler = self.pool.scheduler if self.pool is not None else None
        now, unix = time.monotonic(), time.time()
        watch.publish(now, unix, status, scheduler, self._records, self._natural())

    def evaluated(
        self, step: int, images: np.ndarray, labels: np.ndarray, learned: bool
    ) -> ShownImages:
        """Shows the images (n, h, w, c) of an evaluation, with labels (n, C)."""
        experiment = self._experiment
        classes = None
        if are_classes(experiment.support_labels):
            given = getattr(self._settings, "initial", None) is None
            classes = experiment.support_labels if given else labels.argmax(1)
        names = tuple(experiment.class_names)
        shown = ShownImages(step, images, classes, names, learned)
        if self._watch is not None:
            self._watch.evaluated(shown)
        return shown

    def _read_records(self) -> None:
        """Reads metrics.jsonl if it has changed; records known already stay the same objects."""
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
        learns_images = type(self._settings).__name__ == "DistillSettings"
        settings = vars(self._settings)
        return natural_value(learns_images, settings, self._result(), self._records)

    def _result(self) -> dict[str, Any] | None:
        try:
            result: dict[str, Any] = json.loads(self._workdir.result.read_text())
            return result
        except (OSError, ValueError):
            return None
