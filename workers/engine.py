"""What a worker asks of a kernel engine, and the choice of one."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from kipper.common.architecture import KernelSpec
from kipper.common.errors import UserError

ENGINES = ("auto", "neural_tangents")

# (cotangent (n, m)) -> cotangents of x1 and, if it was asked for, of x2.
Pullback = Callable[[np.ndarray], tuple[np.ndarray, ...]]


class Engine(Protocol):
    """Evaluates blocks of one kernel and their vector-Jacobian products.

    Images are (n, h, w, c) in the kernel's dtype, blocks are (n, m); `both` asks for the cotangent
    of x2 as well as of x1. Results of one method for equal inputs are equal bits.
    """

    name: str

    def block(self, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
        """K(x1, x2)."""
        ...

    def block_vjp(
        self, x1: np.ndarray, x2: np.ndarray, cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, ...]:
        """The cotangent pulled back through K to x1 (and x2); recomputes K."""
        ...

    def linearise(self, x1: np.ndarray, x2: np.ndarray, both: bool) -> tuple[np.ndarray, Pullback]:
        """K(x1, x2) and its pullback, which keeps `residual_bytes` alive."""
        ...

    def residual_bytes(self, x1: np.ndarray, x2: np.ndarray, both: bool) -> int:
        """What the pullback of `linearise` would keep, from shapes alone."""
        ...


def make_engine(name: str, spec: KernelSpec) -> Engine:
    """The engine of that name for one kernel; `auto` is the fastest there is.

    Raises:
        UserError: no such engine.
    """
    if name not in ENGINES:
        raise UserError(f"Unknown engine {name!r}; known are {', '.join(ENGINES)}.")
    from kipper.workers.neural_tangents_engine import neural_tangents_engine

    return neural_tangents_engine(spec)
