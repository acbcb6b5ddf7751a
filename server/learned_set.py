"""What a run learns, evaluates, saves and shows."""

from typing import NamedTuple

import numpy as np

from kipper.common import elementary


class LearnedSet(NamedTuple):
    """Support images, with their labels and temperature.

    Attributes:
        images: (n, h, w, c), preprocessed.
        labels: (n, C) float64.
        temperature: predictions divided by it are the logits of classes; None for a set that was
            learned by the squared loss, whose predictions are no logits.
    """

    images: np.ndarray
    labels: np.ndarray
    temperature: float | None = None


def temperature_of(log_temperature: np.ndarray | None) -> float | None:
    """The temperature whose logarithm (1,) is learned; None for None."""
    return None if log_temperature is None else float(elementary.exp(log_temperature)[0])
