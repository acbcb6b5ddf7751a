"""Label Solve: the support labels that minimise the KRR loss, in closed form, streamed.

Source: arXiv 2107.13034, equation 2. With A = K_ss + ridge and S = K_st K_ts, both (n, n), the
targets enter only through S and K_st y_t (n, C), which are sums over blocks of target images.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg

from kipper.common.errors import NumericalError
from kipper.common.labels import target_values
from kipper.server import krr
from kipper.server.distributed_kernel import DistributedKernel

_NOTEBOOK_RIDGE = 1e-6


class Moments(NamedTuple):
    """Sums over target images.

    Attributes:
        gram: S = K_st K_ts, (n, n).
        cross: K_st y_t, (n, C).
        square: the sum of squares of y_t.
        num_targets: t.
    """

    gram: np.ndarray
    cross: np.ndarray
    square: float
    num_targets: int

    @property
    def step(self) -> int:
        """How far a run is: the number of targets."""
        return self.num_targets


def no_moments(num_support: int, num_outputs: int) -> Moments:
    """The sums over no targets."""
    gram, cross = np.zeros((num_support, num_support)), np.zeros((num_support, num_outputs))
    return Moments(gram, cross, 0.0, 0)


def add_targets(
    moments: Moments, kernel: DistributedKernel, key: str, labels: np.ndarray
) -> Iterator[Moments]:
    """The sums over more and more of a row set with classes or centred targets, up to all.

    `moments` are those over the first rows. Blocks are added in the order of the tiling, so the
    last sums have the same bits from whichever of the earlier ones they continue. Memory is
    O(n^2 + n * block_target) for any number of targets.
    """
    start, num_outputs = moments.num_targets, moments.cross.shape[1]
    for span, k_ts in kernel.target_chunks(key, np.arange(len(labels)), start=start):
        added = batch_moments(k_ts, target_values(labels[span], num_outputs))
        # Not in place: an interrupted run saves the last value that it was given.
        moments = Moments(
            moments.gram + added.gram,
            moments.cross + added.cross,
            moments.square + added.square,
            moments.num_targets + added.num_targets,
        )
        yield moments


def batch_moments(k_ts: np.ndarray, targets: np.ndarray) -> Moments:
    """The sums over one batch: K_ts (t, n) and its values y_t (t, C), both float64."""
    return Moments(k_ts.T @ k_ts, k_ts.T @ targets, float(np.sum(targets**2)), len(targets))


def solve_labels(k_ss: np.ndarray, moments: Moments, ridge: float, convention: str) -> np.ndarray:
    """The labels (n, C) float64 of the support images whose kernel is `k_ss`.

    `paper`: the least-norm minimiser of |K_ts A^-1 y - y_t| with the ridge that evaluation uses,
    A = K_ss + ridge tr(K_ss)/n: y = A S^+ K_st y_t, less its part in the null space of K_ts A^-1
    (which is empty unless support images coincide). `notebook`: the released code's
    (K_ss + rho) (S + rho)^-1 K_st y_t with the absolute rho = 1e-6 / n.

    Raises:
        NumericalError: the matrices are not finite.
    """
    if not (np.isfinite(k_ss).all() and np.isfinite(moments.gram).all()):
        raise NumericalError(
            "K_ss or K_ts has entries that are not finite; look for NaN in the data."
        )
    n = len(k_ss)
    if convention == "notebook":
        rho = _NOTEBOOK_RIDGE / n * np.eye(n)
        return (k_ss + rho) @ scipy.linalg.solve(moments.gram + rho, moments.cross, assume_a="pos")
    regularised = krr.add_ridge(k_ss, ridge)
    values, vectors = scipy.linalg.eigh(moments.gram)
    kept = values > n * np.finfo(np.float64).eps * values[-1]
    basis = vectors[:, kept]
    labels = regularised @ (basis @ ((basis.T @ moments.cross) / values[kept, None]))
    null_space, _ = np.linalg.qr(regularised @ vectors[:, ~kept])
    return labels - null_space @ (null_space.T @ labels)


def target_loss(moments: Moments, coefficients: np.ndarray) -> float:
    """Half the mean squared error over all targets of coefficients A^-1 y (n, C)."""
    fitted = np.sum(coefficients * (moments.gram @ coefficients - 2 * moments.cross))
    return 0.5 * float(fitted + moments.square) / (moments.num_targets * coefficients.shape[1])
