"""Losses of predictions, with their derivatives, in float64.

A loss is a function of predictions (t, C) and of the values (t, C) that they should have: targets
of a regression, or centred one-hot vectors, whose largest entry is at the class.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kipper.common import elementary, linalg


class LossAt(NamedTuple):
    """A loss at some predictions.

    Attributes:
        value: the loss.
        predictions: the derivatives of the loss by the predictions, (t, C).
        log_temperature: the derivative by it, (1,); None for a loss without temperature.
    """

    value: float
    predictions: np.ndarray
    log_temperature: np.ndarray | None = None


Loss = Callable[[np.ndarray, np.ndarray], LossAt]


def squared(predictions: np.ndarray, values: np.ndarray) -> LossAt:
    """Half the mean squared error over all t * C entries (arXiv 2011.00050)."""
    error = predictions - values
    return LossAt(0.5 * linalg.sum_of_squares(error) / error.size, error / error.size)


@dataclasses.dataclass(frozen=True, eq=False)
class CrossEntropy:
    """The mean of -log p over images, p being the class's share in softmax(predictions / T).

    Source: "Efficient Dataset Distillation using Random Feature Approximation" (arXiv 2210.12067),
    which calls the learned temperature T Platt scaling.

    Attributes:
        log_temperature: (1,), the logarithm of T.
    """

    log_temperature: np.ndarray

    def __call__(self, predictions: np.ndarray, values: np.ndarray) -> LossAt:
        sharpness = elementary.exp(-self.log_temperature)
        classes = values.argmax(axis=1)
        losses, slopes = log_losses(predictions * sharpness, classes)
        slopes[np.arange(len(classes)), classes] -= 1
        slopes /= len(classes)
        of_temperature = np.array([-linalg.total(slopes * predictions)]) * sharpness
        return LossAt(linalg.total(losses) / len(classes), slopes * sharpness, of_temperature)


def log_losses(logits: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-log p (t,) of the classes (t,), and p (t, C), the softmax of logits (t, C)."""
    logits = logits - logits.max(axis=1, keepdims=True)
    powers = elementary.exp(logits)
    sums = linalg.row_sums(powers)
    losses = elementary.log(sums) - logits[np.arange(len(classes)), classes]
    return losses, powers / sums[:, np.newaxis]


def loss_with(log_temperature: np.ndarray | None) -> Loss:
    """The loss of a set with this (1,) logarithm of a temperature, or without one."""
    return squared if log_temperature is None else CrossEntropy(log_temperature)
