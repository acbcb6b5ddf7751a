"""Engines for convolutional kernels by the banded algorithm, in plain JAX and native.

Features of an image are its variance maps. Cotangents of a block go back to images and variance
maps of both sides, and from the maps on to their images.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from kipper.common.architecture import KernelSpec
from kipper.common.precision import enable_x64
from kipper.workers import banded_cpu, banded_xla
from kipper.workers.bands import BandedNetwork, banded_network
from kipper.workers.engine import PreparedImages, Pullback

# Maps are made for so many images at a time and thread, the last ones padded, so that they compile
# once: a vector of lanes.
_MAPS_AT_A_TIME = 16


_FlatImages = tuple[Any, Any, Any, Any]  # x1, v1, x2, v2


class CrossVjp(Protocol):
    """K, with a cotangent (n, m) of it pulled back to (x1, v1), and (x2, v2) if `both`."""

    def __call__(
        self, network: BandedNetwork, images: _FlatImages, cotangent: Any, *, both: bool
    ) -> tuple[Any, ...]: ...


@functools.lru_cache(maxsize=8)
def banded_xla_engine(spec: KernelSpec) -> "BandedEngine":
    """The plain JAX engine, one for all workers of a process."""

    def cross(network: BandedNetwork, *images: Any) -> Any:
        return banded_xla.cross_kernel(network, spec.kind, *images)

    def cross_vjp(
        network: BandedNetwork, images: _FlatImages, cotangent: Any, *, both: bool
    ) -> tuple[Any, ...]:
        first, second = images[:2], images[2:]
        if both:
            kernel, pullback = jax.vjp(functools.partial(cross, network), *images)
        else:
            kernel, pullback = jax.vjp(lambda x, v: cross(network, x, v, *second), *first)
        return kernel, *pullback(cotangent)

    maps = banded_xla.variance_maps

    def variance_vjp(network: BandedNetwork, images: Any, cotangent: Any) -> Any:
        return jax.vjp(functools.partial(maps, network), images)[1](cotangent)[0]

    return BandedEngine(
        "banded_xla", spec, banded_xla.variance_maps, variance_vjp, cross, cross_vjp
    )


@functools.lru_cache(maxsize=8)
def banded_cpu_engine(spec: KernelSpec, threads: int) -> "NativeBandedEngine":
    """The native engine, one for all workers of a process.

    The process must be able to load it: `banded_cpu.unavailable()` is None.
    """
    return NativeBandedEngine(spec, threads)


class BandedEngine:
    """See `Engine`. 64-bit mode is entered around each call and never switched on globally."""

    def __init__(
        self,
        name: str,
        spec: KernelSpec,
        variance_maps: Callable[[BandedNetwork, Any], Any],
        variance_vjp: Callable[[BandedNetwork, Any, Any], Any],
        cross: Callable[..., Any],
        cross_vjp: CrossVjp,
        threads: int = 1,
    ):
        self.name = name
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
            return np.asarray(self._cross(self._network(x1.images), *_flat(x1, x2)))

    def block_vjp(
        self, x1: PreparedImages, x2: PreparedImages, cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        with enable_x64(self._x64):
            kernel, *pieces = self._cross_vjp(
                self._network(x1.images), _flat(x1, x2), cotangent, both=both
            )
            return np.asarray(kernel), self._of_images(x1, x2, pieces)

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        raise NotImplementedError("This engine recomputes; see residual_bytes.")

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        del x1, x2, both
        return None

    def _of_images(
        self, x1: PreparedImages, x2: PreparedImages, pieces: Sequence[Any]
    ) -> tuple[np.ndarray, ...]:
        """Cotangents of x1's images, and x2's, from those of images and variance maps in turn."""
        network = self._network(x1.images)
        return tuple(
            np.asarray(image_cotangent) + self._through_maps(network, side.images, maps)
            for side, image_cotangent, maps in zip(
                (x1, x2), pieces[::2], pieces[1::2], strict=False
            )
        )

    def _through_maps(
        self, network: BandedNetwork, images: np.ndarray, cotangent: np.ndarray
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
        assert network is not None  # seen to when the engine was chosen
        return network


class NativeBandedEngine(BandedEngine):
    """The native one. What stages hand on may be kept for the pullback; no bit changes by it."""

    def __init__(self, spec: KernelSpec, threads: int):
        def cross(network: BandedNetwork, *images: Any) -> Any:
            return banded_cpu.cross_kernel(network, spec.kind, *images, threads=threads)

        def linearised(network: BandedNetwork, *images: Any) -> Any:
            return banded_cpu.linearised_cross_kernel(network, spec.kind, *images, threads=threads)

        def cross_vjp(
            network: BandedNetwork,
            images: _FlatImages,
            cotangent: Any,
            kept: Any = None,
            *,
            both: bool,
        ) -> tuple[Any, ...]:
            return banded_cpu.cross_kernel_vjp(
                network, spec.kind, *images, cotangent, both=both, kept=kept, threads=threads
            )

        super().__init__(
            "banded_cpu",
            spec,
            functools.partial(banded_cpu.variance_maps, threads=threads),
            functools.partial(banded_cpu.variance_maps_vjp, threads=threads),
            cross,
            cross_vjp,
            threads,
        )
        self._linearised = jax.jit(linearised, static_argnums=0)

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        network, images = self._network(x1.images), _flat(x1, x2)
        with enable_x64(self._x64):
            kernel, kept = self._linearised(network, *images)

        def pullback(cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
            with enable_x64(self._x64):
                _, *pieces = self._cross_vjp(network, images, cotangent, kept, both=both)
                return self._of_images(x1, x2, pieces)

        return np.asarray(kernel), pullback

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        del both
        network, dtype = self._network(x1.images), x1.images.dtype
        pairs = len(x1.images), len(x2.images)
        return dtype.itemsize * banded_cpu.kept_values(network, self._spec.kind, *pairs, dtype)


def _flat(x1: PreparedImages, x2: PreparedImages) -> _FlatImages:
    return x1.images, x1.features, x2.images, x2.features


def _pieces(rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Rows a few at a time, padded with zeros to one size, with how many are real."""
    for start in range(0, len(rows), size):
        piece = rows[start : start + size]
        padding = [(0, size - len(piece))] + [(0, 0)] * (rows.ndim - 1)
        yield np.pad(piece, padding), len(piece)
