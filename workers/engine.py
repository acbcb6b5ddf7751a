"""The interface of kernel engines."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

from kipper.common.architecture import KernelSpec

# From the cotangent (n, m) to those of the first images and, if asked for, of the second.
Pullback = Callable[[np.ndarray], tuple[np.ndarray, ...]]


@dataclasses.dataclass(frozen=True)
class PreparedImages:
    """Images, with the features that an engine computes from each image alone.

    Attributes:
        images: (n, h, w, c) in the kernel's dtype.
        features: (n, k) in the kernel's dtype; k is 0 for engines without features.
        crowded: (n,) boolean: images that nearly coincide with others, in this block or not; or one
            value for all.
        source: what the images come from, a hashable. Engines may keep what they compute from an
            image by its source and number, since these always mean the same image.
        numbers: (n,) of the images there; by default 0, 1, ...
    """

    images: np.ndarray
    features: np.ndarray
    crowded: np.ndarray | bool = False
    source: object = dataclasses.field(default_factory=object)
    numbers: np.ndarray | None = None

    def take(self, rows: slice | np.ndarray) -> "PreparedImages":
        """Some of the images, with their features."""
        crowded = self.crowded if isinstance(self.crowded, bool) else self.crowded[rows]
        numbers = np.arange(len(self.images)) if self.numbers is None else self.numbers
        return PreparedImages(
            self.images[rows], self.features[rows], crowded, self.source, numbers[rows]
        )

    def is_same_as(self, other: "PreparedImages") -> bool:
        """Whether the other ones are these images in this order, by their source."""
        if self.source is not other.source or len(self.images) != len(other.images):
            return False
        numbers, others = (
            np.arange(len(self.images)) if each.numbers is None else each.numbers
            for each in (self, other)
        )
        return np.array_equal(numbers, others)


class Engine(Protocol):
    """Evaluates blocks of one kernel and their vector-Jacobian products.

    Blocks are (n, m) for n first and m second images, in the kernel's dtype or in float64.
    Cotangents are those of the first images and, if `both`, of the second; they include what comes
    through the features. Equal inputs give equal bits.

    Attributes:
        name: see `common.engines.TABLE`.
        arithmetic: what the bits depend on besides the inputs; see `Numerics`.
    """

    name: str
    arithmetic: str

    def features(self, images: np.ndarray) -> np.ndarray:
        """The features (n, k) of images (n, h, w, c)."""
        ...

    def block(self, x1: PreparedImages, x2: PreparedImages) -> np.ndarray:
        """K(x1, x2)."""
        ...

    def block_vjp(
        self, x1: PreparedImages, x2: PreparedImages, cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """K(x1, x2), and its cotangent (n, m) pulled back to the images."""
        ...

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        """K(x1, x2), and its pullback, which holds `residual_bytes` of memory."""
        ...

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        """The bytes of host memory that the pullback of `linearise` would hold, from shapes alone.

        None if the engine recomputes; `linearise` must then not be called.
        """
        ...


class EngineModule(Protocol):
    """The module of an engine: `workers/NAME_engine.py`, see `common.engines.TABLE`."""

    def unavailable(self) -> str | None:
        """One sentence on what the engine lacks in this installation; None if nothing.

        Does not start a device.
        """
        ...

    def make_engine(self, spec: KernelSpec, threads: int) -> Engine:
        """The engine for a kernel that it evaluates.

        Args:
            spec: the kernel.
            threads: the number that native code may use at once.

        Raises:
            WorkerError: the engine computes wrong results on this machine.
        """
        ...
