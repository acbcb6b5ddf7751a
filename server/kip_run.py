"""A whole KIP run: steps, evaluations, checkpoints, resumption."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from kipper.common import logs
from kipper.common.errors import Interrupted
from kipper.common.labels import strata
from kipper.common.settings import DistillSettings
from kipper.server import checkpoint, kip, krr, sampling
from kipper.server.checkpoint import ResumePoints
from kipper.server.evaluation import Score, begin_score, score_of
from kipper.server.experiment import Experiment
from kipper.server.initial_images import frozen_pixels, initial_images, starts_natural
from kipper.server.initial_set import initial_set
from kipper.server.optimiser import adam_of
from kipper.server.session import Session
from kipper.server.snapshots import Snapshot, SnapshotSink
from kipper.server.spectrum import record_spectrum


def run_kip(session: Session, sink: SnapshotSink | None) -> dict[str, Any]:
    """Distils until `steps`, from the newest checkpoint if there is one; returns result.json.

    Evaluated snapshots go to `sink`, if there is one.

    Raises:
        NumericalError: the regression could not be solved, e.g. because the images diverged.
        WorkerError: no worker is left, or a block failed on several.
        Interrupted: the user asked to stop; a checkpoint was written first.
    """
    run = _KipRun(session, sink)
    return run.finish(run.descend())


def is_evaluated(settings: DistillSettings, step: int) -> bool:
    """Whether a step's state is scored on the test images."""
    if step in (0, settings.steps):
        return True
    every = settings.eval_every
    return checkpoint.is_named(step) if every is None else step % every == 0


def first_state(experiment: Experiment, settings: DistillSettings) -> kip.KipState:
    """What a run begins with."""
    if settings.initial is not None:
        images, labels = initial_set(settings, experiment.target_mean)
    else:
        images = initial_images(experiment, settings)
        labels = experiment.values(experiment.support_labels)
    return kip.initial_state(images, labels, settings.learn_labels)


def rows_of(experiment: Experiment, settings: DistillSettings, step: int) -> np.ndarray:
    """The target images of a step, (t,) indices."""
    balanced = strata(experiment.target.labels, experiment.num_outputs)
    return sampling.target_rows(*balanced, settings.targets_per_step, settings.seed, step)


def targets_of(
    experiment: Experiment, settings: DistillSettings, step: int, rows: np.ndarray
) -> kip.Targets:
    """What the loss of a step is taken over."""
    values = experiment.values(experiment.target.labels[rows])
    kernel = sampling.architecture(len(settings.architectures), settings.seed, step)
    augmenting = experiment.augmenting
    if augmenting is None:
        return kip.Targets(experiment.target.key, rows, values, kernel=kernel)
    return kip.Targets(augmenting.key, augmenting.index[rows], values, step, kernel)


@dataclasses.dataclass
class _Evaluated:
    state: kip.KipState
    loss: float
    train: Score
    test: Score


class _KipRun:
    def __init__(self, session: Session, sink: SnapshotSink | None):
        assert isinstance(session.settings, DistillSettings)
        self._session = session
        self._settings: DistillSettings = session.settings
        self._sink = sink
        self._resume_points: ResumePoints[kip.KipState] = session.resume_points()
        self._adam = adam_of(self._settings)
        self._frozen = frozen_pixels(session.experiment, self._settings)
        self._first_step = 0
        self._drawn: dict[int, np.ndarray] = {}  # rows of the step drawn last

    def descend(self) -> _Evaluated:
        """All steps; the last evaluation is that of the result."""
        step, state = self._start()
        while True:
            logs.now_about(step=step)
            try:
                if self._session.should_finish():
                    raise Interrupted()
                rows = self._rows(step)
                state, regression = self._loss(step, state, rows)
                self._show(step, regression)
                score = (
                    self._begin_score(state.images, state.labels)
                    if is_evaluated(self._settings, step)
                    else None
                )
                new_state = None
                if step < self._settings.steps:
                    self._bring_ahead(step + 1)
                    # Workers score the state while they have nothing to do for its step.
                    new_state = kip.update(
                        self._session.kernel,
                        state,
                        regression.cotangents,
                        self._adam,
                        self._frozen,
                    )
                evaluated = None
                if score is not None:
                    evaluated = self._evaluate(step, state, rows, regression, *score())
                self._save_if_due(step, state)
                if new_state is None:
                    assert evaluated is not None
                    return evaluated
            except (Interrupted, KeyboardInterrupt):
                self._save(step, state)
                raise
            step, state = step + 1, new_state

    def finish(self, evaluated: _Evaluated) -> dict[str, Any]:
        """Waits for the last snapshot to be looked at, and writes the results."""
        session = self._session
        if self._sink is not None:
            self._sink.finish()
        first = session.workdir.read_records(session.workdir.metrics)[0]
        initial = {name: first[name] for name in evaluated.test.fields("test")}
        as_natural = {name.replace("test", "natural"): initial[name] for name in initial}
        result = {
            **evaluated.test.fields("test"),
            **(self._natural_score().fields("natural") if self._altered else as_natural),
            **{name.replace("test", "initial"): initial[name] for name in initial},
            **evaluated.train.fields("train"),
            "loss": evaluated.loss,
            "steps": self._settings.steps,
            **session.account(),
        }
        session.write_results(evaluated.state.images, evaluated.state.labels, result)
        return result

    def _start(self) -> tuple[int, kip.KipState]:
        experiment, workdir = self._session.experiment, self._session.workdir
        initial = first_state(experiment, self._settings)
        found = self._resume_points.newest(initial)
        for records in (workdir.metrics, workdir.spectrum):
            workdir.drop_records_from(records, 0 if found is None else found.step)
        self._session.event_files.begin(0 if found is None else found.step)
        if found is None:
            return 0, initial
        self._session.before = found.counters
        self._first_step = found.step
        return found.step, found.state

    def _rows(self, step: int) -> np.ndarray:
        if step not in self._drawn:
            self._drawn = {step: rows_of(self._session.experiment, self._settings, step)}
        return self._drawn[step]

    def _loss(
        self, step: int, state: kip.KipState, rows: np.ndarray
    ) -> tuple[kip.KipState, krr.Regression]:
        """The regression of a step, and the state, whose labels may be solved for on the way."""
        kernel, targets = self._session.kernel, self._targets(step, rows)
        every = self._settings.solve_labels_every
        if every is not None and step % every == 0:
            return kip.solved_loss_at(kernel, state, targets, self._settings.ridge)
        return state, kip.loss_at(kernel, state, targets, self._settings.ridge)

    def _targets(self, step: int, rows: np.ndarray) -> kip.Targets:
        return targets_of(self._session.experiment, self._settings, step, rows)

    def _bring_ahead(self, step: int) -> None:
        """Has workers make a step's targets ready when they have nothing else to do."""
        targets = self._targets(step, self._rows(step))
        self._session.kernel.bring_ahead(targets.key, targets.rows, targets.draw, targets.kernel)

    @property
    def _altered(self) -> bool:
        """Whether the run did not start from natural images with natural labels."""
        return not starts_natural(self._settings) or self._settings.solve_labels_every is not None

    def _natural_score(self) -> Score:
        """Of the natural images and labels that this run did not start from."""
        experiment = self._session.experiment
        images = experiment.support.astype(self._settings.kernel_dtype)
        labels = experiment.values(experiment.support_labels)
        return self._begin_score(images, labels)()[0]

    def _begin_score(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Callable[[], tuple[Score, np.ndarray]]:
        self._session.kernel.set_support(images)  # the step's may be of another kernel
        test = self._session.experiment.test
        return begin_score(
            self._session.kernel, labels, self._settings.ridge, test.key, test.labels
        )

    def _evaluate(
        self,
        step: int,
        state: kip.KipState,
        rows: np.ndarray,
        regression: krr.Regression,
        test: Score,
        k_ss: np.ndarray,
    ) -> _Evaluated:
        session, target = self._session, self._session.experiment.target
        train = score_of(regression.predictions, target.labels[rows])
        record = {
            "step": step,
            "loss": regression.loss,
            **train.fields("train"),
            **test.fields("test"),
            "seconds": session.counters()["seconds"],
            **record_spectrum(session.workdir, step, k_ss, self._settings.ridge),
        }
        learned = self._settings.learn_labels or self._settings.solve_labels_every is not None
        rates = {f"learning_rate/{name}": rate for name, rate in self._adam.rates_at(step).items()}
        session.evaluated(record, state.images, state.labels, learned, rates)
        session.status.update(now=True, evaluated_step=step, **test.fields("test"))
        logging.info("Evaluated: %s.", ", ".join(f"{k} {v:.6g}" for k, v in record.items()))
        if self._sink is not None:
            self._sink.put(Snapshot(step, state.images, state.labels, regression.loss))
        return _Evaluated(state, regression.loss, train, test)

    def _show(self, step: int, regression: krr.Regression) -> None:
        made = step - self._first_step
        spent = time.monotonic() - self._session.started
        left = round(spent / made * (self._settings.steps - step), 1) if made else None
        self._session.status.update(step=step, loss=regression.loss, seconds_left=left)

    def _save_if_due(self, step: int, state: kip.KipState) -> None:
        if self._is_kept(step) or self._resume_points.is_late():
            self._save(step, state)

    def _save(self, step: int, state: kip.KipState) -> None:
        self._resume_points.save(step, state, self._is_kept(step))
        self._session.status.update(checkpoint_step=step)

    def _is_kept(self, step: int) -> bool:
        return checkpoint.is_named(step) or step == self._settings.steps
