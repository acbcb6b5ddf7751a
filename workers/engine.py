"""What a worker asks of a kernel engine."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

# (cotangent (n, m)) -> cotangents of the first images and, if it was asked for, of the second.
Pullback = Callable[[np.ndarray], tuple[np.ndarray, ...]]


@dataclasses.dataclass(frozen=True)
class PreparedImages:
    """Images with what an engine computed of each alone.

    Attributes:
        images: (n, h, w, c) in the kernel's dtype.
        features: (n, k) in the kernel's dtype; k is 0 for engines that prepare nothing.
    """

    images: np.ndarray
    features: np.ndarray

    def take(self, rows: slice | np.ndarray) -> "PreparedImages":
        """Some of the images, with their features."""
        return PreparedImages(self.images[rows], self.features[rows])


class Engine(Protocol):
    """Evaluates blocks of one kernel and their vector-Jacobian products.

    Blocks are (n, m) for n first and m second images; `both` asks for the cotangent of the second
    images as well as of the first. Cotangents are of the images, features taken as functions of
    them. Results of one method for equal inputs are equal bits.
    """

    name: str

    def features(self, images: np.ndarray) -> np.ndarray:
        """What is computed once of each image (n, h, w, c), as `PreparedImages.features`."""
        ...

    def block(self, x1: PreparedImages, x2: PreparedImages) -> np.ndarray:
        """K(x1, x2)."""
        ...

    def block_vjp(
        self, x1: PreparedImages, x2: PreparedImages, cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """K(x1, x2), and the cotangent pulled back through it to the images."""
        ...

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        """K(x1, x2) and its pullback, which keeps `residual_bytes` alive."""
        ...

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        """What the pullback of `linearise` would keep, from shapes alone.

        None: this engine recomputes; `linearise` is not to be called.
        """
        ...
