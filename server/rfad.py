"""The contents of files released with RFAD (arXiv 2210.12067) besides images and labels.

Its code saves `k`, whose exponential turns predictions into logits (Platt scaling), and `jit`, the
ridge as a multiple of trace(K_ss) / n, like kipper's.
"""

import dataclasses
import pathlib

import numpy as np

from kipper.common import elementary
from kipper.common.array_files import read_npz

_MOST = 700.0  # larger logarithms have no exponential in float64


@dataclasses.dataclass(frozen=True)
class RfadScalars:
    """The scalars of a file.

    Attributes:
        temperature: exp(-k), see `LearnedSet`; None if the file has no k or k is 0, as without
            Platt scaling.
        ridge: jit; None if the file has none.
    """

    temperature: float | None = None
    ridge: float | None = None


def read_rfad(path: pathlib.Path) -> RfadScalars:
    """Reads the scalars; files that are not of RFAD have none.

    Raises:
        one of `UNREADABLE`: the file is damaged.
    """
    arrays = read_npz(path, ("k", "jit"))
    k, ridge = (_number(arrays.get(name)) for name in ("k", "jit"))
    return RfadScalars(
        float(elementary.exp(np.array([-k]))[0]) if k and abs(k) < _MOST else None,
        ridge if ridge is not None and ridge >= 0 else None,
    )


def _number(array: np.ndarray | None) -> float | None:
    if array is None or array.size != 1 or array.dtype.kind not in "fiu":
        return None
    return float(array.item()) if np.isfinite(array.item()) else None
