"""Label Solve: the support labels that minimise the KRR loss, in closed form, streamed.

Source: arXiv 2107.13034, equation 2. With A = K_ss + ridge and S = K_st K_ts, both (n, n), the
targets enter only through S and K_st y_t (n, C), which are sums over blocks of target images.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kipper.common import linalg
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
    cross = linalg.matmul(k_ts.T, targets)
    return Moments(linalg.gram(k_ts), cross, linalg.sum_of_squares(targets), len(targets))


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
        try:
            factor = linalg.cholesky(moments.gram + rho)
        except np.linalg.LinAlgError as error:
            raise NumericalError(
                "K_st K_ts with the released code's ridge of 1e-6 / n is not positive definite, so "
                "labels cannot be solved for; give --label_ridge=paper."
            ) from error
        return linalg.matmul(k_ss + rho, linalg.cholesky_solve(factor, moments.cross))
    regularised = krr.add_ridge(k_ss, ridge)
    values, vectors = linalg.eigh(moments.gram)
    kept = values > n * np.finfo(np.float64).eps * values[-1]
    basis = vectors[:, kept]
    weights = linalg.matmul(basis.T, moments.cross) / values[kept, None]
    labels = linalg.matmul(regularised, linalg.matmul(basis, weights))
    null_space = linalg.orthonormal_columns(linalg.matmul(regularised, vectors[:, ~kept]))
    return labels - linalg.matmul(null_space, linalg.matmul(null_space.T, labels))


def target_loss(moments: Moments, coefficients: np.ndarray) -> float:
    """Half the mean squared error over all targets of coefficients A^-1 y (n, C)."""
    slopes = linalg.matmul(moments.gram, coefficients) - 2 * moments.cross
    fitted = linalg.total(coefficients * slopes)
    return 0.5 * (fitted + moments.square) / (moments.num_targets * coefficients.shape[1])
