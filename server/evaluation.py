"""Scores of support sets on whole row sets, streamed over blocks of the kernel."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from kipper.common import linalg
from kipper.common.labels import are_classes, target_values
from kipper.server import krr
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.losses import log_losses
from kipper.server.measures import ACCURACY, R_SQUARED, Score
from kipper.server.pool import EVALUATION, STEP


def score(
    kernel: DistributedKernel,
    labels: np.ndarray,
    ridge: float,
    key: str,
    expected: np.ndarray,
    temperature: float | None = None,
) -> Score:
    """The score of the kernel's current support, with `labels` (n, C), on a whole row set.

    Args:
        key: the key of the row set.
        expected: its integer classes, or centred targets.
        temperature: the temperature of the set, if it has one.

    Raises:
        NumericalError: see `krr.Factor`.
    """
    return begin_score(kernel, labels, ridge, key, expected, temperature, STEP)()[0]


def begin_score(
    kernel: DistributedKernel,
    labels: np.ndarray,
    ridge: float,
    key: str,
    expected: np.ndarray,
    temperature: float | None = None,
    priority: int = EVALUATION,
) -> Callable[[], tuple[Score, np.ndarray]]:
    """Queues the blocks of `score`; the returned function waits for them.

    It returns the score and its K_ss (n, n). A step may be computed before it is called.
    """
    rows = np.arange(len(expected))
    support_matrix = kernel.begin_support_matrix(priority)
    chunks = kernel.target_chunks(key, rows, priority)

    def finish() -> tuple[Score, np.ndarray]:
        k_ss = support_matrix()
        coefficients = krr.Factor(k_ss, ridge).solve(labels)
        return streamed_scores(chunks, [coefficients], expected, temperature)[0], k_ss

    return finish


def streamed_scores(
    chunks: Iterator[tuple[slice, np.ndarray]],
    coefficients: list[np.ndarray],
    expected: np.ndarray,
    temperature: float | None = None,
) -> list[Score]:
    """Scores of several regressions on the same support, in one pass over chunks of K_ts.

    Args:
        chunks: see `DistributedKernel.target_chunks`.
        coefficients: (K_ss + ridge)^-1 y_s of each regression, (n, C).
        expected: classes (t,) of the rows of K_ts, or centred targets (t, C).
        temperature: the temperature of all regressions, if they have one.
    """
    sums = [_Sums(expected, weights.shape[1], temperature) for weights in coefficients]
    for span, k_ts in chunks:
        for each, weights in zip(sums, coefficients, strict=True):
            each.add(span, linalg.matmul(k_ts, weights))
    return [each.score() for each in sums]


def score_of(
    predictions: np.ndarray, expected: np.ndarray, temperature: float | None = None
) -> Score:
    """The score of predictions (t, C)."""
    sums = _Sums(expected, predictions.shape[1], temperature)
    sums.add(slice(None), predictions)
    return sums.score()


class _Sums:
    """The sums that a score is computed from."""

    def __init__(self, expected: np.ndarray, num_outputs: int, temperature: float | None):
        self._expected = expected
        self._temperature = temperature
        self._log_losses = 0.0
        self._num_outputs = num_outputs
        self._correct = 0
        self._squares = np.zeros(num_outputs)

    def add(self, span: slice, predictions: np.ndarray) -> None:
        expected = self._expected[span]
        if are_classes(expected):
            self._correct += int(np.sum(np.argmax(predictions, axis=1) == expected))
            if self._temperature is not None:
                losses, _ = log_losses(predictions / self._temperature, expected)
                self._log_losses += linalg.total(losses)
        errors = predictions - target_values(expected, self._num_outputs)
        self._squares += linalg.column_sums(errors**2)

    def score(self) -> Score:
        count = len(self._expected)
        loss = 0.5 * linalg.total(self._squares) / (count * self._num_outputs)
        if are_classes(self._expected):
            by_class = None if self._temperature is None else self._log_losses / count
            return Score(ACCURACY, self._correct / count, loss, by_class)
        return Score(R_SQUARED, self._r2(), loss)

    def _r2(self) -> float:
        """R², averaged over outputs; of a constant output 1 if predicted without error, else 0.

        NaN for a single image. All as `sklearn.metrics.r2_score`.
        """
        if len(self._expected) < 2:
            return math.nan
        mean = linalg.column_means(self._expected)
        spread = linalg.column_sums((self._expected - mean) ** 2)
        varies = spread > 0
        missed = np.where(varies, self._squares / np.where(varies, spread, 1), self._squares > 0)
        return 1 - linalg.total(missed) / len(missed)
