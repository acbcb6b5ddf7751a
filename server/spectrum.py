"""The spectrum of K_ss, and the condition of the regression."""

import sys

import numpy as np

from kipper.common import linalg
from kipper.server.workdir import Workdir


def record_spectrum(
    workdir: Workdir, step: int, k_ss: np.ndarray, ridge: float
) -> dict[str, float | None]:
    """Adds the eigenvalues of K_ss (n, n) to spectrum.jsonl, in descending order.

    Returns:
        Fields of `Evaluation`: the condition numbers without and with ridge.
    """
    eigenvalues = linalg.eigvalsh(k_ss)[::-1]
    workdir.append_record(workdir.spectrum, {"step": step, "eigenvalues": eigenvalues.tolist()})
    return condition_numbers(eigenvalues, ridge)


def condition_numbers(eigenvalues: np.ndarray, ridge: float) -> dict[str, float | None]:
    """The condition numbers of a matrix with these eigenvalues (n,), without and with ridge."""
    regularised = eigenvalues + ridge * linalg.total(eigenvalues) / len(eigenvalues)
    return {
        "condition_number": _condition_number(eigenvalues),
        "regularised_condition_number": _condition_number(regularised),
    }


def _condition_number(eigenvalues: np.ndarray) -> float | None:
    """The ratio of the extreme sizes; None if it is infinite, in exact numbers or in float64."""
    sizes = np.abs(eigenvalues)
    least, most = float(sizes.min()), float(sizes.max())
    # A quotient of Python's numbers overflows with an error, one of NumPy's with a warning.
    return most / least if least > most / sys.float_info.max else None
