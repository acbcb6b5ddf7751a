"""Evaluated snapshots of a run; the one with the best validation score is kept.

The coordinator passes them to a sink: in one process to the keeper, under Launchpad to a Reverb
table from which the keeper reads.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from absl import logging

from kipper.common.errors import UserError
from kipper.common.files import set_aside
from kipper.server import checkpoint
from kipper.server.distilled_set import load_distilled, save_distilled
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import Score
from kipper.server.records import Validation
from kipper.server.workdir import Workdir


def has_best_before(workdir: Workdir, step: int) -> bool:
    """Whether the best set before a step can be found after later ones are forgotten."""
    validations = workdir.validations()
    best = best_before(validations, step)
    if best is None or best == best_before(validations):
        return True
    return checkpoint.is_intact(workdir.checkpoints, best.step)


@dataclasses.dataclass(frozen=True)
class SupportSnapshot:
    """A support set that was evaluated.

    Attributes:
        step: gradient steps made.
        support: the set, with images in the kernel's dtype.
        loss: the loss on the step's target batch.
        gone_back: the steps to which the run had gone back by then, in order.
    """

    step: int
    support: LearnedSet
    loss: float
    gone_back: tuple[int, ...] = ()


class SnapshotSink(Protocol):
    """Takes snapshots from the coordinator."""

    def put(self, snapshot: SupportSnapshot) -> None:
        """Takes a snapshot; may return before it has been scored."""
        ...

    def resume_at(self, step: int) -> None:
        """Forgets scores of a step and later if it is not known which worker computed them."""
        ...

    def go_back(self, step: int) -> None:
        """Forgets the snapshots of a step and later: they were wrong, and the run repeats them."""
        ...

    def finish(self) -> None:
        """Returns when the last snapshot has been scored, or after a while."""
        ...


def best_before(validations: Sequence[Validation], step: float = math.inf) -> Validation | None:
    """The best of those before a step, the first of several; None if there is none."""
    earlier = (each for each in validations if each.step < step)
    return max(earlier, key=lambda each: each.validation.rank, default=None)


def mend_best(workdir: Workdir) -> None:
    """Replaces a best.npz that cannot be read by the set of its step's checkpoint, with a warning.

    Without that checkpoint, there is none until a snapshot is better than the one that was lost.
    """
    best = best_before(workdir.validations())
    if best is None:
        return
    try:
        load_distilled(workdir.best)
    except UserError as error:
        aside = f" It is now {set_aside(workdir.best)}." if workdir.best.exists() else ""
        found = checkpoint.support_at(workdir.checkpoints, best.step)
        if found is None:
            logging.warning("%s%s There is no checkpoint of its step, %d.", error, aside, best.step)
        else:
            save_distilled(workdir.best, found)
            logging.warning("%s%s It was made again from checkpoint %d.", error, aside, best.step)


class BestKeeper:
    """A sink that scores each snapshot and keeps the best in best.npz.

    Args:
        workdir: the workdir of the run; its validation.jsonl lists the snapshots that were scored
            before.
        score: returns the validation score of images and labels.
    """

    def __init__(self, workdir: Workdir, score: Callable[[np.ndarray, np.ndarray], Score]):
        self._workdir = workdir
        self._score = score
        self._seen: dict[int, float] = {}  # the loss of each step that was scored
        self._best = -math.inf
        self._read()

    def put(self, snapshot: SupportSnapshot) -> None:
        """Scores the snapshot, unless one of the same step has been scored."""
        loss = self._seen.get(snapshot.step)
        if loss == snapshot.loss:
            return
        if loss is not None:  # a run that died meanwhile had used wrong numbers
            self.go_back(snapshot.step)
        score = self._score(snapshot.support.images, snapshot.support.labels)
        # The set before the record: in the other order a crash between them would lose the best.
        if score.rank > self._best:
            self._best = score.rank
            save_distilled(self._workdir.best, snapshot.support)
        self._seen[snapshot.step] = snapshot.loss
        validation = Validation(snapshot.step, snapshot.loss, score)
        self._workdir.append_record(self._workdir.validation, validation.record())

    def resume_at(self, step: int) -> None:
        """Like `go_back`, unless the best earlier set is not kept."""
        if has_best_before(self._workdir, step):
            self.go_back(step)

    def go_back(self, step: int) -> None:
        """Drops the records of a step and later; best.npz becomes the best of those before."""
        workdir, validations = self._workdir, self._workdir.validations()
        best = best_before(validations, step)
        if best is None:
            workdir.best.unlink(missing_ok=True)
        elif best != best_before(validations):
            found = checkpoint.support_at(workdir.checkpoints, best.step)
            if found is None:
                workdir.best.unlink(missing_ok=True)
                logging.warning(
                    "The best set, of step %d, is lost; best.npz begins again.", best.step
                )
            else:
                save_distilled(workdir.best, found)
        workdir.drop_records_from(workdir.validation, step)
        self._read()

    def _read(self) -> None:
        validations = self._workdir.validations()
        best = best_before(validations)
        self._seen = {validation.step: validation.loss for validation in validations}
        has_best = best is not None and self._workdir.best.exists()
        self._best = best.validation.rank if best is not None and has_best else -math.inf

    def finish(self) -> None:
        """Returns at once: `put` scores snapshots itself."""
