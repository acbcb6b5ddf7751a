"""The common part of the engines of the banded algorithm.

The features of an image are its variance maps. The cotangent of a block is pulled back to the
images and variance maps of both sides, and from the maps to their images.

A float32 engine evaluates the pairs that rounding endangers again in float64, so its blocks are
float64 (docs/banded_kernel.md, "Images that nearly coincide").
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jax import Array

from kipper.common.architecture import KernelSpec
from kipper.common.precision import enable_x64
from kipper.workers.bands import BandedNetwork, banded_network
from kipper.workers.engine import PreparedImages, Pullback
from kipper.workers.near_pairs import Nearness, image_nearness

AnyArray = np.ndarray | Array
FlatImages = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # x1, v1, x2, v2

# (network, x1, x2) -> K, and which pairs are endangered.
Cross = Callable[[BandedNetwork, PreparedImages, PreparedImages], tuple[AnyArray, AnyArray]]
# (network, x1, x2, cotangent, both=) -> K, which pairs are endangered, and the cotangents of images
# and features of x1, and of x2 if `both`, to which endangered pairs add nothing.
CrossVjp = Callable[..., tuple[AnyArray, ...]]


class BandedEngine:
    """Convolutional kernels, evaluated by the given functions; see `Engine`.

    `exact` makes the same engine for float64, and `exact_columns` is the number of pairs of an
    image that it evaluates at once; None for any.
    """

    def __init__(
        self,
        name: str,
        arithmetic: str,
        spec: KernelSpec,
        variance_maps: Callable[[BandedNetwork, np.ndarray], np.ndarray],
        variance_vjp: Callable[[BandedNetwork, np.ndarray, np.ndarray], np.ndarray],
        cross: Cross,
        cross_vjp: CrossVjp,
        exact: "Callable[[], BandedEngine]",
        exact_columns: int | None,
    ):
        self.name = name
        self.arithmetic = arithmetic
        self._spec = spec
        self._x64 = spec.dtype == "float64"
        self._variance_maps, self._variance_vjp = variance_maps, variance_vjp
        self._cross, self._cross_vjp = cross, cross_vjp
        self._exact, self._exact_columns = exact, exact_columns

    def features(self, images: np.ndarray) -> np.ndarray:
        with enable_x64(self._x64):
            return self._variance_maps(self._network(images), images)

    def block(self, x1: PreparedImages, x2: PreparedImages) -> np.ndarray:
        with enable_x64(self._x64):
            kernel, endangered = self._cross(self._network(x1.images), x1, x2)
        judged = np.asarray(kernel), np.asarray(endangered)
        return self._judged(x1, x2, self._nearness(x1, x2), *judged)[0]

    def block_vjp(
        self, x1: PreparedImages, x2: PreparedImages, cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        network = self._network(x1.images)
        nearness = self._nearness(x1, x2)
        usual = cotangent if nearness is None else np.where(nearness.near, 0, cotangent)
        with enable_x64(self._x64):
            rounded, endangered, *pieces = self._cross_vjp(network, x1, x2, usual, both=both)
            cotangents = self._of_images(x1, x2, pieces)
        judged = np.asarray(rounded), np.asarray(endangered)
        kernel, again = self._judged(x1, x2, nearness, *judged)
        return kernel, self._with_exact(x1, x2, cotangent, again, cotangents)

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        raise NotImplementedError("This engine recomputes: residual_bytes is None.")

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        del x1, x2, both
        return None

    def _with_pullback(
        self,
        x1: PreparedImages,
        x2: PreparedImages,
        rounded: np.ndarray,
        endangered: np.ndarray,
        pull_back: Callable[[np.ndarray], Sequence[AnyArray]],
    ) -> tuple[np.ndarray, Pullback]:
        """The result of `linearise`, from `_cross` and from the cotangents of `_cross_vjp`.

        For endangered pairs, `pull_back` gets a cotangent of 0.
        """
        kernel, again = self._judged(x1, x2, self._nearness(x1, x2), rounded, endangered)

        def pullback(cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
            pieces = pull_back(np.where(again, 0, cotangent))
            return self._with_exact(x1, x2, cotangent, again, self._of_images(x1, x2, pieces))

        return kernel, pullback

    def _nearness(self, x1: PreparedImages, x2: PreparedImages) -> Nearness | None:
        """The nearness of the images; None in float64, which suffices for all pairs."""
        return None if self._x64 else image_nearness(x1.images, x2.images, self._spec.architecture)

    def _judged(
        self,
        x1: PreparedImages,
        x2: PreparedImages,
        nearness: Nearness | None,
        kernel: np.ndarray,
        endangered: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The kernel in float64, and which pairs (n, m) float64 had to evaluate.

        Images with a near partner are also evaluated with themselves in float64.
        """
        if nearness is None:
            return kernel, np.zeros(kernel.shape, bool)
        equal, near = nearness
        again = near | endangered
        crowded = np.logical_or.outer(again.any(1) | x1.crowded, again.any(0) | x2.crowded)
        held = kernel.astype(np.float64)
        wanted = again | (equal & crowded)
        symmetric = x1.is_same_as(x2)
        for row, columns in self._groups(np.triu(wanted) if symmetric else wanted):
            exact, first, second = self._exactly(x1, x2, row, columns)
            held[row, columns] = exact.block(first, second)[0]
            if symmetric:
                held[columns, row] = held[row, columns]
        return held, again

    def _with_exact(
        self,
        x1: PreparedImages,
        x2: PreparedImages,
        cotangent: np.ndarray,
        again: np.ndarray,
        cotangents: tuple[np.ndarray, ...],
    ) -> tuple[np.ndarray, ...]:
        """`cotangents`, with what the pairs `again` (n, m) of `cotangent` add in float64."""
        if not again.any():
            return cotangents
        sums = [array.astype(np.float64) for array in cotangents]
        for row, columns in self._groups(again):
            exact, first, second = self._exactly(x1, x2, row, columns)
            weights = cotangent[row, columns].astype(np.float64)
            weights[len(np.unique(columns)) :] = 0  # the others only fill up
            _, pulled = exact.block_vjp(first, second, weights[None], both=len(sums) == 2)
            sums[0][row] += pulled[0][0]
            if len(sums) == 2:
                np.add.at(sums[1], columns, pulled[1])
        return tuple(array.astype(x1.images.dtype) for array in sums)

    def _groups(self, pairs: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """The columns of each row's pairs, a few at a time; the last one fills up the last few."""
        for row in np.flatnonzero(pairs.any(1)):
            columns = np.flatnonzero(pairs[row])
            few = self._exact_columns or len(columns)
            columns = np.pad(columns, (0, -len(columns) % few), mode="edge")
            for start in range(0, len(columns), few):
                yield int(row), columns[start : start + few]

    def _exactly(
        self, x1: PreparedImages, x2: PreparedImages, row: int, columns: np.ndarray
    ) -> "tuple[BandedEngine, PreparedImages, PreparedImages]":
        """The engine for float64, with one image and some others as it takes them."""
        exact = self._exact()
        sides = (side.astype(np.float64) for side in (x1.images[[row]], x2.images[columns]))
        first, second = (PreparedImages(images, exact.features(images)) for images in sides)
        return exact, first, second

    def _of_images(
        self, x1: PreparedImages, x2: PreparedImages, pieces: Sequence[AnyArray]
    ) -> tuple[np.ndarray, ...]:
        """The cotangents of x1, and of x2, from `pieces`: of images and variance maps in turn."""
        network = self._network(x1.images)
        return tuple(
            np.asarray(image_cotangent) + self._variance_vjp(network, side.images, np.asarray(maps))
            for side, image_cotangent, maps in zip(
                (x1, x2), pieces[::2], pieces[1::2], strict=False
            )
        )

    def _network(self, images: np.ndarray) -> BandedNetwork:
        height, width = images.shape[1:3]
        network = banded_network(self._spec.architecture, height, width)
        assert network is not None  # the table of engines says so
        return network


def flat(x1: PreparedImages, x2: PreparedImages) -> FlatImages:
    """The inputs of a block."""
    return x1.images, x1.features, x2.images, x2.features
