"""What the engines of the banded algorithm share.

The features of an image are its variance maps. The cotangent of a block is pulled back to the
images and variance maps of both sides, and from the maps to their images.
"""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax import Array

from kipper.common.architecture import KernelSpec
from kipper.common.precision import enable_x64
from kipper.workers.bands import BandedNetwork, banded_network
from kipper.workers.engine import PreparedImages, Pullback

# Images whose maps are evaluated together, for each thread: a whole vector of lanes. The last ones
# are padded to this number, so that only one shape is compiled.
_MAPS_AT_A_TIME = 16

FlatImages = tuple[Array, Array, Array, Array]  # x1, v1, x2, v2


# (network, images, cotangent, both=) -> K, the cotangents of x1 and v1, and of x2 and v2 if `both`.
CrossVjp = Callable[..., tuple[Array, ...]]


class BandedEngine:
    """Convolutional kernels, with the functions that are given; see `Engine`."""

    def __init__(
        self,
        name: str,
        arithmetic: str,
        spec: KernelSpec,
        variance_maps: Callable[[BandedNetwork, Array], Array],
        variance_vjp: Callable[[BandedNetwork, Array, Array], Array],
        cross: Callable[[BandedNetwork, Array, Array, Array, Array], Array],
        cross_vjp: CrossVjp,
        threads: int = 1,
    ):
        self.name = name
        self.arithmetic = arithmetic
        self._spec = spec
        self._x64 = spec.dtype == "float64"
        self._maps_at_a_time = _MAPS_AT_A_TIME * threads
        self._variance_maps = jax.jit(variance_maps, static_argnums=0)
        self._variance_vjp = jax.jit(variance_vjp, static_argnums=0)
        self._cross = jax.jit(cross, static_argnums=0)
        self._cross_vjp = jax.jit(cross_vjp, static_argnums=0, static_argnames="both")

    def features(self, images: np.ndarray) -> np.ndarray:
        network = self._network(images)
        with enable_x64(self._x64):
            maps = [
                np.asarray(self._variance_maps(network, piece))[:count]
                for piece, count in _pieces(images, self._maps_at_a_time)
            ]
        return np.concatenate(maps)

    def block(self, x1: PreparedImages, x2: PreparedImages) -> np.ndarray:
        with enable_x64(self._x64):
            return np.asarray(self._cross(self._network(x1.images), *flat(x1, x2)))

    def block_vjp(
        self, x1: PreparedImages, x2: PreparedImages, cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        with enable_x64(self._x64):
            kernel, *pieces = self._cross_vjp(
                self._network(x1.images), flat(x1, x2), cotangent, both=both
            )
            return np.asarray(kernel), self._of_images(x1, x2, pieces)

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        raise NotImplementedError("This engine recomputes: residual_bytes is None.")

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        del x1, x2, both
        return None

    def _of_images(
        self, x1: PreparedImages, x2: PreparedImages, pieces: Sequence[Array]
    ) -> tuple[np.ndarray, ...]:
        """The cotangents of x1, and of x2, from `pieces`: of images and variance maps in turn."""
        network = self._network(x1.images)
        return tuple(
            np.asarray(image_cotangent) + self._through_maps(network, side.images, maps)
            for side, image_cotangent, maps in zip(
                (x1, x2), pieces[::2], pieces[1::2], strict=False
            )
        )

    def _through_maps(
        self, network: BandedNetwork, images: np.ndarray, cotangent: Array
    ) -> np.ndarray:
        pulled = [
            np.asarray(self._variance_vjp(network, piece, maps))[:count]
            for (piece, count), (maps, _) in zip(
                _pieces(images, self._maps_at_a_time),
                _pieces(np.asarray(cotangent), self._maps_at_a_time),
                strict=True,
            )
        ]
        return np.concatenate(pulled)

    def _network(self, images: np.ndarray) -> BandedNetwork:
        height, width = images.shape[1:3]
        network = banded_network(self._spec.architecture, height, width)
        assert network is not None  # the table of engines says so
        return network


def flat(x1: PreparedImages, x2: PreparedImages) -> tuple[np.ndarray, ...]:
    """The inputs of a block in the order of `FlatImages`."""
    return x1.images, x1.features, x2.images, x2.features


def _pieces(rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Pieces of `size` rows, padded with zeros, each with its number of real rows."""
    for start in range(0, len(rows), size):
        piece = rows[start : start + size]
        padding = [(0, size - len(piece))] + [(0, 0)] * (rows.ndim - 1)
        yield np.pad(piece, padding), len(piece)
