"""What the engines of the banded algorithm share.

The features of an image are its variance maps. The cotangent of a block is pulled back to the
images and variance maps of both sides, and from the maps to their images.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jax import Array

from kipper.common.architecture import KernelSpec
from kipper.common.precision import enable_x64
from kipper.workers.bands import BandedNetwork, banded_network
from kipper.workers.engine import PreparedImages, Pullback

_AnyArray = np.ndarray | Array
FlatImages = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # x1, v1, x2, v2

# (network, images, cotangent, both=) -> K, the cotangents of x1 and v1, and of x2 and v2 if `both`.
CrossVjp = Callable[..., tuple[_AnyArray, ...]]


class BandedEngine:
    """Convolutional kernels, with the functions that are given; see `Engine`."""

    def __init__(
        self,
        name: str,
        arithmetic: str,
        spec: KernelSpec,
        variance_maps: Callable[[BandedNetwork, np.ndarray], np.ndarray],
        variance_vjp: Callable[[BandedNetwork, np.ndarray, np.ndarray], np.ndarray],
        cross: Callable[..., _AnyArray],
        cross_vjp: CrossVjp,
    ):
        self.name = name
        self.arithmetic = arithmetic
        self._spec = spec
        self._x64 = spec.dtype == "float64"
        self._variance_maps, self._variance_vjp = variance_maps, variance_vjp
        self._cross, self._cross_vjp = cross, cross_vjp

    def features(self, images: np.ndarray) -> np.ndarray:
        with enable_x64(self._x64):
            return self._variance_maps(self._network(images), images)

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
        self, x1: PreparedImages, x2: PreparedImages, pieces: Sequence[_AnyArray]
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
