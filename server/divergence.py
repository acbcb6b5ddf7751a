"""Whether a KIP run diverges, and whether further steps can lead anywhere."""

import numpy as np
from absl import logging

from kipper.common import linalg
from kipper.common.errors import Diverged
from kipper.common.numbers import significant
from kipper.server.losses import Loss, squared

# If the loss is this share of the loss of predicting nothing, the set has lost nearly all that it
# knew.
_HARDLY_BETTER = 0.95
# Root mean squares of support pixels, as multiples of what they were at first. Learned images are
# a few times as large as natural ones. A step moves images by at most about the learning rate, in
# root mean square, so they do not come back from the larger one.
_LARGE, _LOST = 5.0, 1e3


class Divergence:
    """Watches the losses and images of a run.

    Args:
        initial: images (n, h, w, c) that the run starts from.
    """

    def __init__(self, initial: np.ndarray):
        self._first_size = max(_size(initial), 1.0)
        self._has_warned = False

    def check(
        self,
        step: int,
        loss: float,
        values: np.ndarray,
        images: np.ndarray,
        loss_of: Loss = squared,
    ) -> None:
        """Warns once if a set predicts hardly anything and its images are large.

        Args:
            step: gradient steps made.
            loss: the loss of the step.
            values: (t, C) that the loss is about.
            images: (n, h, w, c) of the step.
            loss_of: the kind of loss.

        Raises:
            Diverged: the images are so large that no step leads back.
        """
        nothing = loss_of(np.zeros_like(values), values).value
        if loss < _HARDLY_BETTER * nothing:
            return
        size = _size(images) / self._first_size
        if size < _LARGE:
            return
        said = (
            f"at step {step} support images are {size:.2g} times as large as at first, and the "
            f"loss is {significant(loss)}, where predicting nothing has {significant(nothing)}; "
            "lower --learning_rate"
        )
        if size > _LOST:
            raise Diverged(
                f"The run has diverged: {said}, with --overwrite or in another --workdir."
            )
        if not self._has_warned:
            self._has_warned = True
            logging.warning("The run may be diverging: %s.", said)


def _size(images: np.ndarray) -> float:
    """The root mean square of all pixels."""
    return float(np.sqrt(linalg.sum_of_squares(images.astype(np.float64)) / images.size))
