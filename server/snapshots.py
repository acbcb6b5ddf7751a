"""Snapshots of a run, and the keeper of the best one by its score on validation images.

The coordinator hands evaluated snapshots to a sink. In one process the sink is the keeper; under
Launchpad a Reverb table lies between them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from kipper.server.distilled_set import save_distilled
from kipper.server.evaluation import Score
from kipper.server.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A support set as it was evaluated.

    Attributes:
        step: gradient steps made.
        images: (n, h, w, c), preprocessed, in the kernel's dtype.
        labels: (n, C) float64.
        loss: on the step's target batch.
    """

    step: int
    images: np.ndarray
    labels: np.ndarray
    loss: float


class SnapshotSink(Protocol):
    """Takes snapshots from the coordinator."""

    def put(self, snapshot: Snapshot) -> None:
        """Takes a snapshot; may return before it has been looked at."""
        ...

    def finish(self) -> None:
        """Returns when the last snapshot has been looked at, or after a while."""
        ...


def validation_value(record: dict[str, Any]) -> float:
    """`Score.value` of a record of validation.jsonl."""
    name = "validation_accuracy" if "validation_accuracy" in record else "validation_r2"
    return float(record[name])


class BestKeeper:
    """A sink that scores each snapshot and keeps the best in best.npz.

    Args:
        workdir: of the run; validation.jsonl there remembers what earlier coordinators scored.
        score: of images and labels, on validation images.
    """

    def __init__(self, workdir: Workdir, score: Callable[[np.ndarray, np.ndarray], Score]):
        self._workdir = workdir
        self._score = score
        records = workdir.read_records(workdir.validation)
        self._seen = {record["step"] for record in records}
        self._best = max(map(validation_value, records), default=-np.inf)

    def put(self, snapshot: Snapshot) -> None:
        """Scores the snapshot, unless an earlier coordinator's of the same step was scored."""
        if snapshot.step in self._seen:
            return
        score = self._score(snapshot.images, snapshot.labels)
        # The file first: were the record first, a crash between the two would lose the best.
        if score.value > self._best:
            self._best = score.value
            save_distilled(self._workdir.best, snapshot.images, snapshot.labels)
        self._seen.add(snapshot.step)
        record = {
            "step": snapshot.step,
            "loss": snapshot.loss,
            **score.fields("validation"),
        }
        self._workdir.append_record(self._workdir.validation, record)

    def finish(self) -> None:
        """Nothing is outstanding."""
