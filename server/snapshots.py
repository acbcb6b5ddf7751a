"""Evaluated snapshots of a run, of which the one with the best validation score is kept.

The coordinator passes them to a sink: in one process to the keeper, under Launchpad to a Reverb
table from which the keeper reads.
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
    """A support set that was evaluated.

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
        """Takes a snapshot; may return before it has been scored."""
        ...

    def finish(self) -> None:
        """Returns when the last snapshot has been scored, or after a while."""
        ...


class BestKeeper:
    """A sink that scores each snapshot and keeps the best in best.npz.

    Args:
        workdir: of the run; its validation.jsonl lists the snapshots that were scored before.
        score: returns the validation score of images and labels.
    """

    def __init__(self, workdir: Workdir, score: Callable[[np.ndarray, np.ndarray], Score]):
        self._workdir = workdir
        self._score = score
        validations = workdir.validations()
        self._seen = {validation.step for validation in validations}
        self._best = max((each.validation.value for each in validations), default=-np.inf)

    def put(self, snapshot: SupportSnapshot) -> None:
        """Scores the snapshot, unless one of the same step has been scored."""
        if snapshot.step in self._seen:
            return
        score = self._score(snapshot.images, snapshot.labels)
        # The set before the record: in the other order a crash between them would lose the best.
        if score.value > self._best:
            self._best = score.value
            save_distilled(self._workdir.best, snapshot.images, snapshot.labels)
        self._seen.add(snapshot.step)
        validation = Validation(snapshot.step, snapshot.loss, score)
        self._workdir.append_record(self._workdir.validation, validation.record())

    def finish(self) -> None:
        """Returns at once: `put` scores snapshots itself."""
