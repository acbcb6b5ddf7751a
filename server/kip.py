"""KIP: one gradient step on support images, and labels, as a function of the state.

Source: arXiv 2011.00050, algorithm 1; Adam on images and labels together, as in its released code.
Labels that are solved for, the cross-entropy and the moving average: docs/kip.md.
"""

from typing import NamedTuple

import numpy as np

from kipper.common.messages import UNCHANGED
from kipper.common.settings.algorithms import OptimiserName
from kipper.server import krr, label_solve
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.learned_set import LearnedSet, temperature_of
from kipper.server.losses import loss_with
from kipper.server.optimiser import Optimiser, OptimiserState, initial_moments

# The initial temperature of a set without one (arXiv 2210.12067 begins near it).
FIRST_TEMPERATURE = 0.1
# The average forgets its first iterates sooner: after t steps its decay is at most t / (t + 9).
_AVERAGE_DELAY = 9


class Point(NamedTuple):
    """What KIP learns.

    Attributes:
        images: (n, h, w, c) in the kernel's dtype, preprocessed.
        labels: (n, C) float64.
        log_temperature: (1,) float64 for the cross-entropy; None for the squared loss.
    """

    images: np.ndarray
    labels: np.ndarray
    log_temperature: np.ndarray | None = None


class KipState(NamedTuple):
    """The state before a step.

    Attributes:
        images, labels, log_temperature: as in `Point`; these are evaluated, saved and shown. They
            are the iterate, or the moving average of iterates.
        optimiser: the optimiser's state over the learned arrays.
        iterate: where the optimiser goes on from; None without an average, because both are then
            the same.
    """

    images: np.ndarray
    labels: np.ndarray
    optimiser: OptimiserState
    log_temperature: np.ndarray | None = None
    iterate: Point | None = None

    @property
    def step(self) -> int:
        """The number of steps made, by the optimiser's count."""
        return int(self.optimiser.steps)

    @property
    def point(self) -> Point:
        """Where the optimiser goes on from."""
        return self.iterate or Point(self.images, self.labels, self.log_temperature)

    @property
    def support(self) -> LearnedSet:
        """What is evaluated, saved and shown."""
        return LearnedSet(self.images, self.labels, temperature_of(self.log_temperature))


class Targets(NamedTuple):
    """The target images of a step's loss.

    Attributes:
        key: the key of a row set.
        rows: (t,) indices into it.
        values: (t, C) values to predict.
        draw: the step whose augmentation is drawn for raw images; `UNCHANGED` without augmentation.
        kernel: index of the kernel among those of the run.
    """

    key: str
    rows: np.ndarray
    values: np.ndarray
    draw: int = UNCHANGED
    kernel: int = 0


def initial_state(
    images: np.ndarray,
    labels: np.ndarray,
    learn_labels: bool,
    log_temperature: np.ndarray | None = None,
    averages: bool = False,
    optimiser: OptimiserName = "adam",
) -> KipState:
    """The state before the first step; labels enter the optimiser only if they are learned."""
    point = Point(images, labels, log_temperature)
    fixed = () if learn_labels else ("labels",)
    learned = {
        name: value
        for name, value in point._asdict().items()
        if value is not None and name not in fixed
    }
    begun = initial_moments(learned, rotates=optimiser == "soap")
    return KipState(images, labels, begun, log_temperature, point if averages else None)


def loss_at(
    kernel: DistributedKernel, state: KipState, targets: Targets, ridge: float
) -> krr.Regression:
    """Loss, predictions and cotangents on target images.

    Raises:
        NumericalError: see `krr.regress`.
    """
    k_ss, k_ts = _linearise(kernel, state, targets)
    _, labels, log_temperature = state.point
    return krr.regress(k_ss, k_ts, labels, targets.values, ridge, loss_with(log_temperature))


def solved_loss_at(
    kernel: DistributedKernel, state: KipState, targets: Targets, ridge: float
) -> tuple[KipState, krr.Regression]:
    """Solves for the labels that minimise the loss; returns the state with them and the regression.

    For a state without temperature and average. The cotangents are those of the minimum as a
    function of the images alone.
    """
    k_ss, k_ts = _linearise(kernel, state, targets)
    moments = label_solve.batch_moments(k_ts, targets.values)
    labels = label_solve.solve_labels(k_ss, moments, ridge, "paper")
    return state._replace(labels=labels), krr.regress(k_ss, k_ts, labels, targets.values, ridge)


def _linearise(
    kernel: DistributedKernel, state: KipState, targets: Targets
) -> tuple[np.ndarray, np.ndarray]:
    kernel.set_support(state.point.images, targets.kernel)
    return kernel.linearise(targets.key, targets.rows, targets.draw)


def update(
    kernel: DistributedKernel,
    state: KipState,
    cotangents: krr.Cotangents,
    optimiser: Optimiser,
    frozen: np.ndarray | None = None,
    average: float = 0.0,
) -> KipState:
    """The state after one step along the gradient that `cotangents` pull back to.

    Pixels where `frozen` (n, h, w, 1) is true do not change. `average` is the decay of the moving
    average, for a state that has one.
    """
    point = state.point
    gradient = kernel.gradient(cotangents.k_ss, cotangents.k_ts).astype(point.images.dtype)
    if frozen is not None:
        gradient = np.where(frozen, gradient.dtype.type(0), gradient)
    gradients = {**cotangents._asdict(), "images": gradient}
    stepped, after = optimiser.step(
        {name: getattr(point, name) for name in optimiser.learned},
        {name: gradients[name] for name in optimiser.learned},
        state.optimiser,
    )
    point = point._replace(**stepped)
    if frozen is not None:
        point = point._replace(images=np.where(frozen, state.images, point.images))
    if state.iterate is None:
        return KipState(point.images, point.labels, after, point.log_temperature)
    decay = min(average, (state.step + 1) / (state.step + 1 + _AVERAGE_DELAY))
    means = {
        name: _nearer(getattr(state, name), values, decay)
        for name, values in point._asdict().items()
        if values is not None
    }
    return KipState(**means, optimiser=after, iterate=point)


def _nearer(mean: np.ndarray, values: np.ndarray, decay: float) -> np.ndarray:
    """decay * mean + (1 - decay) * values, written so that values that stay are not rounded."""
    return mean + mean.dtype.type(1 - decay) * (values - mean)
