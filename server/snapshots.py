"""Snapshots of a run, and the keeper of the best one by its score on validation images.

The coordinator hands evaluated snapshots to a sink. In one process the sink is the keeper; under
Launchpad a Reverb table lies between them.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

from kipper.server.distilled_set import save_distilled
from kipper.server.measures import Score
from kipper.server.records import Validation
from kipper.server.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class SupportSnapshot:
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

    def put(self, snapshot: SupportSnapshot) -> None:
        """Takes a snapshot; may return before it has been looked at."""
        ...

    def finish(self) -> None:
        """Returns when the last snapshot has been looked at, or after a while."""
        ...


class BestKeeper:
    """A sink that scores each snapshot and keeps the best in best.npz.

    Args:
        workdir: of the run; validation.jsonl there remembers what earlier coordinators scored.
        score: of images and labels, on validation images.
    """

    def __init__(self, workdir: Workdir, score: Callable[[np.ndarray, np.ndarray], Score]):
        self._workdir = workdir
        self._score = score
        validations = workdir.validations()
        self._seen = {validation.step for validation in validations}
        self._best = max((each.validation.value for each in validations), default=-np.inf)

    def put(self, snapshot: SupportSnapshot) -> None:
        """Scores the snapshot, unless an earlier coordinator's of the same step was scored."""
        if snapshot.step in self._seen:
            return
        score = self._score(snapshot.images, snapshot.labels)
        # The file first: were the record first, a crash between the two would lose the best.
        if score.value > self._best:
            self._best = score.value
            save_distilled(self._workdir.best, snapshot.images, snapshot.labels)
        self._seen.add(snapshot.step)
        validation = Validation(snapshot.step, snapshot.loss, score)
        self._workdir.append_record(self._workdir.validation, validation.record())

    def finish(self) -> None:
        """Nothing is outstanding."""
