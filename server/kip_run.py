"""A whole KIP run: steps, evaluations, checkpoints, resumption."""

import functools
import itertools
import time
from collections.abc import Callable

import numpy as np
from absl import logging

from kipper.common import logs
from kipper.common.elementary import log
from kipper.common.errors import Interrupted
from kipper.common.labels import strata
from kipper.common.settings import DistillSettings
from kipper.server import kip, krr, sampling
from kipper.server.algorithms.kip import Kip
from kipper.server.checkpoint import ResumePoints
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.divergence import Divergence
from kipper.server.estimate import Sizes
from kipper.server.evaluation import begin_score, score_of
from kipper.server.experiment import Experiment
from kipper.server.going_back import without_lies
from kipper.server.initial_images import frozen_pixels, initial_images
from kipper.server.initial_set import initial_set
from kipper.server.learned_set import LearnedSet, temperature_of
from kipper.server.losses import loss_with
from kipper.server.measures import Score
from kipper.server.optimiser import optimiser_of
from kipper.server.records import Evaluation, RunResult
from kipper.server.session import Session
from kipper.server.snapshots import SnapshotSink, SupportSnapshot, best_before
from kipper.server.spectrum import record_spectrum


def run_kip(session: Session, algorithm: Kip, sink: SnapshotSink | None) -> RunResult:
    """Distills until `steps`, from the newest checkpoint if there is one; see `Algorithm.run`."""

    def attempt() -> RunResult:
        run = _KipRun(session, algorithm, sink)
        return run.finish(*run.descend())

    return without_lies(session, sink, attempt)


def first_state(experiment: Experiment, algorithm: Kip) -> kip.KipState:
    """The state that a run starts from."""
    settings = algorithm.settings
    if settings.initial is not None:
        support = initial_set(settings, experiment.target_mean)
    else:
        images = initial_images(experiment, algorithm)
        support = LearnedSet(images, experiment.values(experiment.support_labels))
    log_temperature = None
    if settings.loss == "cross_entropy":
        log_temperature = log(np.array([support.temperature or kip.FIRST_TEMPERATURE]))
    return kip.initial_state(
        support.images,
        support.labels,
        settings.learn_labels,
        log_temperature,
        averages=settings.average > 0,
        optimiser=settings.optimiser,
    )


def rows_of(experiment: Experiment, settings: DistillSettings, step: int) -> np.ndarray:
    """The target images of a step, (t,) indices."""
    balanced = strata(experiment.target.labels, experiment.num_outputs)
    return sampling.target_rows(*balanced, settings.targets_per_step, settings.seed, step)


def targets_of(
    experiment: Experiment, settings: DistillSettings, step: int, rows: np.ndarray
) -> kip.Targets:
    """The targets of a step's loss, for the target images `rows` (t,)."""
    values = experiment.values(experiment.target.labels[rows])
    kernel = sampling.architecture(len(settings.architectures), settings.seed, step)
    augmenting = experiment.augmenting
    if augmenting is None:
        return kip.Targets(experiment.target.key, rows, values, kernel=kernel)
    return kip.Targets(augmenting.key, augmenting.index[rows], values, step, kernel)


class _KipRun:
    def __init__(self, session: Session, algorithm: Kip, sink: SnapshotSink | None):
        self._session = session
        self._algorithm = algorithm
        self._settings = algorithm.settings
        self._sink = sink
        self._resume_points: ResumePoints[kip.KipState] = session.resume_points()
        self._optimiser = optimiser_of(self._settings)
        self._frozen = frozen_pixels(session.experiment, self._settings)
        sizes = Sizes.of(session.experiment, self._settings.kernel_dtype)
        self._evaluated = frozenset(algorithm.evaluated_steps(sizes))
        self._first_step = 0
        draw = functools.partial(rows_of, session.experiment, self._settings)
        self._rows = functools.lru_cache(maxsize=2)(draw)

    def descend(self) -> tuple[kip.KipState, Evaluation]:
        """Makes all steps; returns the last state and its evaluation.

        Raises:
            Diverged: further steps cannot lead anywhere.
        """
        step, state = self._start()
        while True:
            logs.now_about(step=step)
            self._session.pool.position = step
            try:
                if self._session.should_finish():
                    raise Interrupted()
                rows = self._rows(step)
                state, regression = self._loss(step, state, rows)
                self._show(step, regression)
                self._check(step, state, regression)
                score = None
                if step in self._evaluated:
                    # Workers score the state while they have nothing to do for its step.
                    score = self._begin_score(state.support)
                new_state = None
                if step < self._settings.steps:
                    self._prefetch(step + 1)
                    new_state = kip.update(
                        self._session.kernel,
                        state,
                        regression.cotangents,
                        self._optimiser,
                        self._frozen,
                        self._settings.average,
                    )
                evaluation, is_last = None, new_state is None
                if score is not None:
                    evaluation = self._evaluate(step, state, rows, regression, *score())
                    is_last = is_last or self._has_plateaued(step)
                if is_last or self._algorithm.is_kept(step) or self._resume_points.is_late():
                    self._save(step, state, keep=is_last)
                if is_last or new_state is None:
                    assert evaluation is not None
                    return state, evaluation
            except (Interrupted, KeyboardInterrupt):
                self._save(step, state)
                self._session.write_unfinished(step, state.support)
                raise
            step, state = step + 1, new_state

    def finish(self, state: kip.KipState, last: Evaluation) -> RunResult:
        """Waits until the last snapshot has been scored, and writes the results."""
        session = self._session
        if self._sink is not None:
            self._sink.finish()
        initial = session.workdir.evaluations()[0].test
        best_step, best = session.best() or (None, None)
        result = RunResult(
            test=last.test,
            natural=initial if self._algorithm.starts_natural else self._natural_score(),
            initial=initial,
            train=last.train,
            loss=last.loss,
            steps=state.step,
            stopped="plateau" if state.step < self._settings.steps else None,
            best=best,
            best_step=best_step,
            account=session.account(),
            **session.settled(),
        )
        session.write_results(state.support, result)
        return result

    def _start(self) -> tuple[int, kip.KipState]:
        workdir = self._session.workdir
        initial = first_state(self._session.experiment, self._algorithm)
        self._divergence = Divergence(initial.images)
        found = self._resume_points.newest(initial)
        self._session.begin_at(found)
        for records in (workdir.metrics, workdir.spectrum):
            workdir.drop_records_from(records, 0 if found is None else found.step)
        self._session.event_files.begin(0 if found is None else found.step)
        if self._sink is not None:
            self._sink.resume_at(0 if found is None else found.step)
        if found is None:
            return 0, initial
        self._first_step = found.step
        return found.step, found.state

    def _loss(
        self, step: int, state: kip.KipState, rows: np.ndarray
    ) -> tuple[kip.KipState, krr.Regression]:
        """The regression of a step, and the state, whose labels the step may have solved for."""
        kernel, targets = self._session.kernel, self._targets(step, rows)
        every = self._settings.solve_labels_every
        if every is not None and step % every == 0:
            return kip.solved_loss_at(kernel, state, targets, self._settings.ridge)
        return state, kip.loss_at(kernel, state, targets, self._settings.ridge)

    def _targets(self, step: int, rows: np.ndarray) -> kip.Targets:
        return targets_of(self._session.experiment, self._settings, step, rows)

    def _prefetch(self, step: int) -> None:
        """Lets idle workers prepare the targets of a step."""
        targets = self._targets(step, self._rows(step))
        self._session.kernel.prefetch(targets.key, targets.rows, targets.draw, targets.kernel)

    def _natural_score(self) -> Score:
        """The test score of natural images with natural labels."""
        experiment = self._session.experiment
        images = experiment.support.astype(self._settings.kernel_dtype)
        labels = experiment.values(experiment.support_labels)
        return self._begin_score(LearnedSet(images, labels))()[0]

    def _begin_score(self, support: LearnedSet) -> Callable[[], tuple[Score, np.ndarray]]:
        images, labels, temperature = support
        self._session.kernel.set_support(images)  # with the first kernel; the step may use another
        test, ridge = self._session.experiment.test, self._settings.ridge
        return begin_score(self._session.kernel, labels, ridge, test.key, test.labels, temperature)

    def _evaluate(
        self,
        step: int,
        state: kip.KipState,
        rows: np.ndarray,
        regression: krr.Regression,
        test: Score,
        k_ss: np.ndarray,
    ) -> Evaluation:
        session, target = self._session, self._session.experiment.target
        evaluation = Evaluation(
            step=step,
            loss=regression.loss,
            train=score_of(
                regression.predictions,
                target.labels[rows],
                temperature_of(state.point.log_temperature),
            ),
            test=test,
            seconds=session.counters().seconds,
            **record_spectrum(session.workdir, step, k_ss, self._settings.ridge),
        )
        rates = {
            f"learning_rate/{name}": rate for name, rate in self._optimiser.rates_at(step).items()
        }
        session.evaluated(evaluation, state.support, rates)
        session.status.update(now=True, evaluated_step=step, test=test)
        values = [f"{k} {v:.6g}" for k, v in evaluation.record().items() if v is not None]
        logging.info("Evaluated: %s.", ", ".join(values))
        if self._sink is not None:
            self._sink.put(SupportSnapshot(step, state.support, regression.loss))
        return evaluation

    def _check(self, step: int, state: kip.KipState, regression: krr.Regression) -> None:
        """Warns of a run that diverges; raises `Diverged` if no step leads back."""
        point, values = state.point, self._targets(step, self._rows(step)).values
        loss_of = loss_with(point.log_temperature)
        self._divergence.check(step, regression.loss, values, point.images, loss_of)

    def _has_plateaued(self, step: int) -> bool:
        """Whether the score on held-out images has not risen for long, at an evaluated step."""
        if not self._algorithm.ends_by_scores:
            return False
        best = best_before(self._session.workdir.validations(), step + 1)
        return best is not None and self._algorithm.is_plateau(step, best.step)

    def _show(self, step: int, regression: krr.Regression) -> None:
        made = step - self._first_step
        spent = time.monotonic() - self._session.started
        left = round(spent / made * (self._settings.steps - step), 1) if made else None
        self._session.status.update(step=step, loss=regression.loss, seconds_left=left)

    def _save(self, step: int, state: kip.KipState, keep: bool = False) -> None:
        self._resume_points.save(step, state, keep or self._algorithm.is_kept(step))
        self._session.status.update(checkpoint_step=step)


def step_trial(
    algorithm: Kip, experiment: Experiment, kernel: DistributedKernel, index: int
) -> Callable[[int], None]:
    """A function that makes a step from the first state with kernel `index` of the run.

    Its argument is the number of target images to use; each call takes those of the next step.
    """
    settings, steps = algorithm.settings, itertools.count()
    first, optimiser = first_state(experiment, algorithm), optimiser_of(settings)
    frozen = frozen_pixels(experiment, settings)
    rows = functools.lru_cache(maxsize=2)(functools.partial(rows_of, experiment, settings))

    def targets(step: int, count: int) -> kip.Targets:
        found = targets_of(experiment, settings, step, rows(step)[:count])
        return found._replace(kernel=index)

    def act(count: int) -> None:
        step, state = next(steps), first._replace(images=first.images.copy())
        regression = kip.loss_at(kernel, state, targets(step, count), settings.ridge)
        ahead = targets(step + 1, count)
        kernel.prefetch(ahead.key, ahead.rows, ahead.draw, ahead.kernel)
        kip.update(kernel, state, regression.cotangents, optimiser, frozen, settings.average)

    return act
