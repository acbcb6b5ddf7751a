"""Kernel ridge regression on assembled matrices, in float64 for kernels of any dtype.

Pure functions of numpy arrays. n support images, t target images, C classes; labels are centred
one-hot vectors or learned ones. Source: "Dataset Meta-Learning from Kernel Ridge-Regression"
(arXiv 2011.00050), equation 1, with the ridge scaled by trace(K_ss) / n as in its released code.
"""

from typing import NamedTuple

import numpy as np

from kipper.common import linalg
from kipper.common.errors import NumericalError
from kipper.server.losses import Loss, squared

# Workers may receive derivatives as float32.
_LARGEST = np.finfo(np.float32).max


class Cotangents(NamedTuple):
    """Derivatives of the loss, float64.

    Attributes:
        k_ss: (n, n), with all entries of K_ss independent.
        k_ts: (t, n).
        labels: (n, C).
        log_temperature: (1,); None for a loss without temperature.
    """

    k_ss: np.ndarray
    k_ts: np.ndarray
    labels: np.ndarray
    log_temperature: np.ndarray | None = None


class Regression(NamedTuple):
    """The loss of one step, with its predictions and derivatives.

    Attributes:
        loss: the loss of the predictions.
        predictions: (t, C) float64.
        cotangents: derivatives of `loss`.
    """

    loss: float
    predictions: np.ndarray
    cotangents: Cotangents


class Factor:
    """The Cholesky factor of K_ss + ridge * trace(K_ss) / n * I.

    Raises:
        NumericalError: K_ss is not finite, or the matrix is not positive definite.
    """

    def __init__(self, k_ss: np.ndarray, ridge: float):
        k_ss = np.asarray(k_ss, np.float64)
        _check_finite("K_ss", k_ss)
        self.matrix = add_ridge(k_ss, ridge)
        try:
            self._factor = linalg.cholesky(self.matrix)
        except np.linalg.LinAlgError as error:
            raise _singular(ridge) from error

    def solve(self, right: np.ndarray) -> np.ndarray:
        """(K_ss + ridge)^-1 right, float64."""
        return linalg.cholesky_solve(self._factor, right)


def _singular(ridge: float) -> NumericalError:
    return NumericalError(
        f"K_ss with ridge {ridge:g} is not positive definite, so labels cannot be solved for. "
        "Causes: (a) the ridge is too small for the kernel's rounding: raise --ridge to 1e-5 or "
        "more, or use --kernel_dtype=float64; (b) support images coincide: use fewer or another "
        "--seed; (c) the images have diverged: lower --learning_rate."
    )


def _check_finite(name: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise NumericalError(
            f"{name} has entries that are not finite: the run has probably diverged; lower "
            "--learning_rate, or look for NaN in the data."
        )


def add_ridge(k_ss: np.ndarray, ridge: float) -> np.ndarray:
    """K_ss + ridge * trace(K_ss) / n * I, for any square matrix (n, n)."""
    n = len(k_ss)
    return k_ss + ridge * linalg.total(np.diag(k_ss)) / n * np.eye(n)


def regress(
    k_ss: np.ndarray,
    k_ts: np.ndarray,
    y_s: np.ndarray,
    y_t: np.ndarray,
    ridge: float,
    loss: Loss = squared,
) -> Regression:
    """The loss of predicting `y_t` (t, C) from support labels `y_s` (n, C), and its derivatives.

    Derivation: docs/gradient.md.

    Raises:
        NumericalError: see `Factor`; or derivatives exceed float32, as with a matrix that only
            rounding makes positive definite.
    """
    k_ts = np.asarray(k_ts, np.float64)
    for name, values in (("K_ts", k_ts), ("the support labels", y_s)):
        _check_finite(name, values)
    factor = Factor(k_ss, ridge)
    alpha = factor.solve(y_s)
    predictions = linalg.matmul(k_ts, alpha)
    found = loss(predictions, y_t)
    labels = factor.solve(linalg.matmul(k_ts.T, found.predictions))
    regularised = -linalg.matmul(labels, alpha.T)
    k_ss_cotangent = add_ridge(regularised, ridge)
    k_ts_cotangent = linalg.matmul(found.predictions, alpha.T)
    cotangents = Cotangents(k_ss_cotangent, k_ts_cotangent, labels, found.log_temperature)
    if not all((np.abs(each) <= _LARGEST).all() for each in cotangents if each is not None):
        raise _singular(ridge)
    return Regression(found.value, predictions, cotangents)
