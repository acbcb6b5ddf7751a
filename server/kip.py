"""KIP: one gradient step on support images, and labels, as a function of the state.

Source: arXiv 2011.00050, algorithm 1; Adam on images and labels together, as in its released code.
Labels that are solved for: docs/kip.md.
"""

from typing import NamedTuple

import numpy as np

from kipper.common.messages import UNCHANGED
from kipper.server import krr, label_solve
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.optimiser import Adam, AdamState, initial_moments


class KipState(NamedTuple):
    """The state before a step.

    Attributes:
        images: (n, h, w, c) in the kernel's dtype, preprocessed.
        labels: (n, C) float64.
        optimiser: Adam's state over the learned arrays.
    """

    images: np.ndarray
    labels: np.ndarray
    optimiser: AdamState

    @property
    def step(self) -> int:
        """The number of steps made, by Adam's count."""
        return int(self.optimiser.steps)


class Targets(NamedTuple):
    """The target images of a step's loss.

    Attributes:
        key: of a row set.
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


def initial_state(images: np.ndarray, labels: np.ndarray, learn_labels: bool) -> KipState:
    """The state before the first step; labels enter the optimiser only if they are learned."""
    learned = {"images": images, "labels": labels} if learn_labels else {"images": images}
    return KipState(images, labels, initial_moments(learned))


def loss_at(
    kernel: DistributedKernel, state: KipState, targets: Targets, ridge: float
) -> krr.Regression:
    """Loss, predictions and cotangents on target images.

    Raises:
        NumericalError: see `krr.regress`.
    """
    k_ss, k_ts = _linearise(kernel, state, targets)
    return krr.regress(k_ss, k_ts, state.labels, targets.values, ridge)


def solved_loss_at(
    kernel: DistributedKernel, state: KipState, targets: Targets, ridge: float
) -> tuple[KipState, krr.Regression]:
    """Solves for the labels that minimise the loss; returns the state with them and the regression.

    The cotangents are those of the minimum as a function of the images alone.
    """
    k_ss, k_ts = _linearise(kernel, state, targets)
    moments = label_solve.batch_moments(k_ts, targets.values)
    labels = label_solve.solve_labels(k_ss, moments, ridge, "paper")
    return state._replace(labels=labels), krr.regress(k_ss, k_ts, labels, targets.values, ridge)


def _linearise(
    kernel: DistributedKernel, state: KipState, targets: Targets
) -> tuple[np.ndarray, np.ndarray]:
    kernel.set_support(state.images, targets.kernel)
    return kernel.linearise(targets.key, targets.rows, targets.draw)


def update(
    kernel: DistributedKernel,
    state: KipState,
    cotangents: krr.Cotangents,
    adam: Adam,
    frozen: np.ndarray | None = None,
) -> KipState:
    """The state after one step of Adam along the gradient that `cotangents` pull back to.

    Pixels where `frozen` (n, h, w, 1) is true do not change.
    """
    gradient = kernel.gradient(cotangents.k_ss, cotangents.k_ts).astype(state.images.dtype)
    parameters = {name: getattr(state, name) for name in adam.learned}
    gradients = {"images": gradient, "labels": cotangents.labels}
    stepped, optimiser = adam.step(
        parameters, {name: gradients[name] for name in adam.learned}, state.optimiser
    )
    images = stepped["images"]
    if frozen is not None:
        images = np.where(frozen, state.images, images)
    return KipState(images, stepped.get("labels", state.labels), optimiser)
