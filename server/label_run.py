"""A whole Label Solve run: solve, evaluate, write."""

from typing import Any

import numpy as np

from kipper.common.labels import centred_one_hot
from kipper.common.settings import SolveLabelsSettings
from kipper.server import krr, label_solve, sampling
from kipper.server.evaluation import score_coefficients
from kipper.server.session import Session

# Training accuracy is taken on a class-balanced draw: it costs kernel blocks of its own, while the
# loss over all targets follows from the sums that were made anyway.
_TRAIN_ACCURACY_ROWS = 5000


def run_label_solve(session: Session) -> dict[str, Any]:
    """Solves labels for the natural support images over all targets; returns result.json.

    Raises:
        NumericalError: the regression could not be solved.
        WorkerError: no worker is left, or a block failed on several.
    """
    settings, experiment = session.settings, session.experiment
    assert isinstance(settings, SolveLabelsSettings)
    images = experiment.support.astype(settings.kernel_dtype)
    session.kernel.set_support(images)
    k_ss = session.kernel.support_matrix()
    moments = label_solve.target_moments(
        session.kernel,
        len(images),
        session.experiment.target.key,
        experiment.target.labels,
        experiment.num_classes,
    )
    labels = label_solve.solve_labels(k_ss, moments, settings.ridge, settings.label_ridge)
    factor = krr.Factor(k_ss, settings.ridge)
    natural = centred_one_hot(experiment.support_labels, experiment.num_classes)
    coefficients = [factor.solve(labels), factor.solve(natural)]
    solved_score, natural_score = score_coefficients(
        session.kernel,
        coefficients,
        experiment.test.key,
        np.arange(len(experiment.test.labels)),
        experiment.test.labels,
    )
    record = {
        "step": 0,
        "loss": label_solve.target_loss(moments, coefficients[0]),
        "train_accuracy": _train_accuracy(session, coefficients[0]),
        "test_accuracy": solved_score.accuracy,
        "seconds": session.counters()["seconds"],
    }
    session.workdir.drop_records_from(session.workdir.metrics, 0)
    session.workdir.append_record(session.workdir.metrics, record)
    result = {
        "test_accuracy": solved_score.accuracy,
        "test_loss": solved_score.loss,
        "natural_accuracy": natural_score.accuracy,
        "train_accuracy": record["train_accuracy"],
        "loss": record["loss"],
        "steps": 0,
        **session.account(),
    }
    session.write_results(images, labels, result)
    return result


def _train_accuracy(session: Session, coefficients: np.ndarray) -> float:
    target = session.experiment.target
    rows = sampling.target_rows(
        target.labels,
        session.experiment.num_classes,
        _TRAIN_ACCURACY_ROWS,
        session.settings.seed,
        step=0,
    )
    scores = score_coefficients(
        session.kernel, [coefficients], session.experiment.target.key, rows, target.labels[rows]
    )
    return scores[0].accuracy
