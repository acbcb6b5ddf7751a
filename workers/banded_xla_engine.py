"""The banded engine in plain JAX, for any device."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kipper.common.architecture import KernelSpec
from kipper.workers import banded_xla
from kipper.workers.arithmetic import xla_arithmetic
from kipper.workers.banded_engine import BandedEngine, flat
from kipper.workers.bands import BandedNetwork

# Images whose maps are evaluated together. The last ones are padded to this number, so that only
# one shape is compiled.
_MAPS_AT_A_TIME = 16
# Pairs of an image that float64 evaluates together, for the same reason.
_EXACT_PAIRS_AT_A_TIME = 8


def unavailable() -> str | None:
    """None: plain JAX runs everywhere."""
    return None


def make_engine(spec: KernelSpec, threads: int) -> BandedEngine:
    """The engine for `spec`, one for all workers of a process; XLA chooses its own threads."""
    del threads
    return _engine(spec)


@functools.lru_cache(maxsize=8)
def _engine(spec: KernelSpec) -> BandedEngine:
    at_once = jax.default_backend() != "cpu"
    variance_maps = functools.partial(banded_xla.variance_maps, at_once=at_once)

    def cross(network: BandedNetwork, *images: Array) -> tuple[Array, Array]:
        kernel, endangered = banded_xla.judged_cross_kernel(
            network, spec.kind, *images, at_once=at_once
        )
        return kernel, endangered & (spec.dtype == "float32")

    def cross_vjp(
        network: BandedNetwork, images: tuple[Array, ...], cotangent: Array, *, both: bool
    ) -> tuple[Array, ...]:
        if at_once:
            x1, v1, x2, v2 = images
            judged = spec.dtype == "float32"
            return banded_xla.cross_kernel_vjp_at_once(
                network, spec.kind, x1, v1, x2, v2, cotangent, both=both, judged=judged
            )
        first, second = images[:2], images[2:]
        if both:
            kernel, pullback, endangered = jax.vjp(
                functools.partial(cross, network), *images, has_aux=True
            )
        else:
            kernel, pullback, endangered = jax.vjp(
                lambda x, v: cross(network, x, v, *second), *first, has_aux=True
            )
        return kernel, endangered, *pullback(jnp.where(endangered, 0, cotangent))

    compiled = jax.jit(cross, static_argnums=0)
    compiled_vjp = jax.jit(cross_vjp, static_argnums=0, static_argnames="both")

    def variance_vjp(network: BandedNetwork, images: Array, cotangent: Array) -> Array:
        return jax.vjp(functools.partial(variance_maps, network), images)[1](cotangent)[0]

    return BandedEngine(
        "banded_xla",
        xla_arithmetic(),
        spec,
        _in_pieces(variance_maps),
        _in_pieces(variance_vjp),
        lambda network, x1, x2: compiled(network, *flat(x1, x2)),
        lambda network, x1, x2, cotangent, both: compiled_vjp(
            network, flat(x1, x2), cotangent, both=both
        ),
        lambda: _engine(spec.in_float64),
        _EXACT_PAIRS_AT_A_TIME,
    )


def _in_pieces(function: Callable[..., Array]) -> Callable[..., np.ndarray]:
    """A compiled function of a network and of arrays with a row for each image, by few images."""
    compiled = jax.jit(function, static_argnums=0)

    def run(network: BandedNetwork, *arrays: np.ndarray) -> np.ndarray:
        pieces = zip(*map(_pieces, arrays), strict=True)
        results = [np.asarray(compiled(network, *piece)) for piece in pieces]
        return np.concatenate(results)[: len(arrays[0])]

    return run


def _pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Pieces of `_MAPS_AT_A_TIME` rows, the last one padded with zeros."""
    for start in range(0, len(rows), _MAPS_AT_A_TIME):
        piece = rows[start : start + _MAPS_AT_A_TIME]
        padding = [(0, _MAPS_AT_A_TIME - len(piece))] + [(0, 0)] * (rows.ndim - 1)
        yield np.pad(piece, padding)
