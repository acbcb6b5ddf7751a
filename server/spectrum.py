"""The spectrum of K_ss, kept for figures, and how well the regression is conditioned."""

import numpy as np

from kipper.server.workdir import Workdir


def record_spectrum(
    workdir: Workdir, step: int, k_ss: np.ndarray, ridge: float
) -> dict[str, float | None]:
    """Adds the eigenvalues of K_ss (n, n) to spectrum.jsonl, the largest first.

    Returns:
        Fields for metrics.jsonl: the condition numbers of K_ss without ridge and with it, in the
        2-norm; None where the matrix is singular.
    """
    eigenvalues = np.linalg.eigvalsh(k_ss)[::-1]
    workdir.append_record(workdir.spectrum, {"step": step, "eigenvalues": eigenvalues.tolist()})
    regularised = eigenvalues + ridge * eigenvalues.mean()
    return {
        "condition_number": _condition_number(eigenvalues),
        "regularised_condition_number": _condition_number(regularised),
    }


def _condition_number(eigenvalues: np.ndarray) -> float | None:
    sizes = np.abs(eigenvalues)
    return float(sizes.max() / sizes.min()) if sizes.min() > 0 else None
