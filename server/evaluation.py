"""Accuracy and error of support sets on a resident row set, streamed."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from kipper.common.labels import centred_one_hot
from kipper.server import krr
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.pool import EVALUATION, STEP


class Score(NamedTuple):
    """How well a support set predicts.

    Attributes:
        accuracy: share of images whose largest prediction is at their class.
        loss: half the mean squared error against centred one-hot labels, over all entries.
    """

    accuracy: float
    loss: float


def score(
    kernel: DistributedKernel, labels: np.ndarray, ridge: float, key: str, classes: np.ndarray
) -> Score:
    """The score of the kernel's current support, with `labels` (n, C), on a whole row set.

    Args:
        kernel: with the support set.
        labels: of the support images, float64.
        ridge: see `krr.Factor`.
        key: of a resident row set.
        classes: its integer labels.

    Raises:
        NumericalError: see `krr.Factor`.
    """
    return begin_score(kernel, labels, ridge, key, classes, STEP)()[0]


def begin_score(
    kernel: DistributedKernel,
    labels: np.ndarray,
    ridge: float,
    key: str,
    classes: np.ndarray,
    priority: int = EVALUATION,
) -> Callable[[], tuple[Score, np.ndarray]]:
    """As `score`, but its blocks are only queued: what is returned waits for them.

    It also gives the K_ss (n, n) of the score. Until then a step may be computed, with the same
    support or the next.
    """
    rows = np.arange(len(classes))
    support_matrix = kernel.begin_support_matrix(priority)
    chunks = kernel.target_chunks(key, rows, priority)

    def finish() -> tuple[Score, np.ndarray]:
        k_ss = support_matrix()
        coefficients = krr.Factor(k_ss, ridge).solve(labels)
        return streamed_scores(chunks, [coefficients], classes)[0], k_ss

    return finish


def score_coefficients(
    kernel: DistributedKernel,
    coefficients: list[np.ndarray],
    key: str,
    rows: np.ndarray,
    classes: np.ndarray,
) -> list[Score]:
    """Scores of several regressions on the same support, in one pass over the kernel.

    Args:
        kernel: with the support set.
        coefficients: (K_ss + ridge)^-1 y_s of each regression, (n, C).
        key: of a resident row set.
        rows: indices (t,) into it.
        classes: integer labels (t,) of these rows.
    """
    return streamed_scores(kernel.target_chunks(key, rows), coefficients, classes)


def streamed_scores(
    chunks: Iterator[tuple[slice, np.ndarray]], coefficients: list[np.ndarray], classes: np.ndarray
) -> list[Score]:
    """The same from `chunks` of K_ts, as `DistributedKernel.target_chunks` gives them."""
    num_classes = coefficients[0].shape[1]
    correct = np.zeros(len(coefficients), int)
    squares = np.zeros(len(coefficients))
    for span, k_ts in chunks:
        targets = centred_one_hot(classes[span], num_classes)
        for i, weights in enumerate(coefficients):
            predictions = k_ts @ weights
            correct[i] += np.sum(np.argmax(predictions, axis=1) == classes[span])
            squares[i] += np.sum((predictions - targets) ** 2)
    entries = len(classes) * num_classes
    return [
        Score(int(c) / len(classes), 0.5 * float(s) / entries)
        for c, s in zip(correct, squares, strict=True)
    ]
