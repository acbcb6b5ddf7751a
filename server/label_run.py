"""A whole Label Solve run: sums over all targets, the solution, evaluation; resumption."""

import itertools
import time
from collections.abc import Iterator

import numpy as np

from kipper.common.errors import Interrupted
from kipper.common.labels import strata
from kipper.common.settings import SolveLabelsSettings
from kipper.server import krr, label_solve, sampling
from kipper.server.algorithms.label_solve import TRAIN_SCORE_ROWS
from kipper.server.checkpoint import ResumePoints
from kipper.server.evaluation import streamed_scores
from kipper.server.experiment import Split
from kipper.server.going_back import without_lies
from kipper.server.label_solve import Moments
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import Score
from kipper.server.records import Evaluation, RunResult
from kipper.server.session import Session
from kipper.server.spectrum import record_spectrum


def run_label_solve(session: Session, settings: SolveLabelsSettings) -> RunResult:
    """Solves for the labels of the natural support images over all targets; see `Algorithm.run`.

    The sums over targets resume from the newest checkpoint; everything else is recomputed, which
    costs little beside them.
    """
    return without_lies(session, None, lambda: _attempt(session, settings))


def _attempt(session: Session, settings: SolveLabelsSettings) -> RunResult:
    experiment, workdir = session.experiment, session.workdir
    run = _LabelRun(session)
    images = experiment.support.astype(settings.kernel_dtype)
    first = run.start()
    session.kernel.set_support(images)
    # Checkpoints of sums over fewer targets do not depend on K_ss.
    session.pool.position = len(experiment.target.labels)
    k_ss = session.kernel.support_matrix()
    moments = run.moments(first)
    labels = label_solve.solve_labels(k_ss, moments, settings.ridge, settings.label_ridge)
    factor = krr.Factor(k_ss, settings.ridge)
    natural_labels = experiment.values(experiment.support_labels)
    coefficients = [factor.solve(labels), factor.solve(natural_labels)]
    solved, natural = run.test_scores(coefficients)
    for records in (workdir.metrics, workdir.spectrum):
        workdir.drop_records_from(records, 0)
    evaluation = Evaluation(
        step=0,
        loss=label_solve.target_loss(moments, coefficients[0]),
        train=run.train_score(coefficients[0]),
        test=solved,
        seconds=session.counters().seconds,
        **record_spectrum(workdir, 0, k_ss, settings.ridge),
    )
    session.evaluated(evaluation, LearnedSet(images, labels))
    result = RunResult(
        test=solved,
        test_loss=solved.loss,
        natural=natural,
        train=evaluation.train,
        loss=evaluation.loss,
        steps=0,
        account=session.account(),
        **session.settled(),
    )
    session.write_results(LearnedSet(images, labels), result)
    return result


class _LabelRun:
    """The passes over row sets that a run makes with its support set.

    They come in the order targets, test images, training images; the estimate of the time left
    depends on it.
    """

    def __init__(self, session: Session):
        experiment = session.experiment
        self._session = session
        self._resume_points: ResumePoints[Moments] = session.resume_points()
        self._train_rows = sampling.target_rows(
            *strata(experiment.target.labels, experiment.num_outputs),
            TRAIN_SCORE_ROWS,
            session.settings.compute.seed,
            step=0,
        )
        sizes = {
            "targets": len(experiment.target.labels),
            "test images": len(experiment.test.labels),
            "training images": len(self._train_rows),
        }
        ends = itertools.accumulate(sizes.values())
        self._rows_before = {w: e - sizes[w] for w, e in zip(sizes, ends, strict=True)}
        self._num_rows = sum(sizes.values())
        self._first_row = 0
        self._began = time.monotonic()

    def start(self) -> Moments:
        """The sums of the newest checkpoint."""
        experiment = self._session.experiment
        none = label_solve.no_moments(len(experiment.support), experiment.num_outputs)
        found = self._resume_points.newest(none)
        self._session.begin_at(found)
        if found is None:
            return none
        self._first_row = found.step
        return found.state

    def moments(self, first: Moments) -> Moments:
        """The sums over all targets, continued from the sums `first` over some of them."""
        kernel, target = self._session.kernel, self._session.experiment.target
        moments, pool = first, self._session.pool
        pool.position = first.num_targets
        try:
            self._show("targets", moments.num_targets, len(target.labels))
            for moments in label_solve.add_targets(first, kernel, target.key, target.labels):
                pool.position = moments.num_targets
                self._show("targets", moments.num_targets, len(target.labels))
                if self._resume_points.is_late():
                    self._resume_points.save(moments.num_targets, moments)
        except (Interrupted, KeyboardInterrupt):
            self._resume_points.save(moments.num_targets, moments)
            raise
        self._resume_points.save(moments.num_targets, moments, keep=True)
        return moments

    def test_scores(self, coefficients: list[np.ndarray]) -> list[Score]:
        """Scores of several regressions (n, C) on all test images."""
        test = self._session.experiment.test
        return self._scores("test images", coefficients, test, np.arange(len(test.labels)))

    def train_score(self, coefficients: np.ndarray) -> Score:
        """The score of a regression (n, C) on a draw of targets."""
        target = self._session.experiment.target
        return self._scores("training images", [coefficients], target, self._train_rows)[0]

    def _scores(
        self, rows_of: str, coefficients: list[np.ndarray], split: Split, rows: np.ndarray
    ) -> list[Score]:
        chunks = self._session.kernel.target_chunks(split.key, rows)
        return streamed_scores(
            self._shown(rows_of, len(rows), chunks), coefficients, split.labels[rows]
        )

    def _shown(
        self, rows_of: str, num_rows: int, chunks: Iterator[tuple[slice, np.ndarray]]
    ) -> Iterator[tuple[slice, np.ndarray]]:
        self._show(rows_of, 0, num_rows)
        for span, k_ts in chunks:
            yield span, k_ts
            self._show(rows_of, span.stop, num_rows)

    def _show(self, rows_of: str, rows: int, num_rows: int) -> None:
        """Reports how far a pass is, and ends the run if the user asked for that."""
        if self._session.should_finish():
            raise Interrupted()
        row = self._rows_before[rows_of] + rows
        made = row - self._first_row
        spent = time.monotonic() - self._began
        left = round(spent / made * (self._num_rows - row), 1) if made else None
        self._session.status.update(
            rows_of=rows_of, rows=rows, rows_total=num_rows, seconds_left=left
        )
