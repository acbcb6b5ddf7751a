"""The banded engine in plain JAX, for any device."""

import functools

import jax
from jax import Array

from kipper.common.architecture import KernelSpec
from kipper.workers import banded_xla
from kipper.workers.arithmetic import xla_arithmetic
from kipper.workers.banded_engine import BandedEngine, FlatImages
from kipper.workers.bands import BandedNetwork


def unavailable() -> str | None:
    """None: plain JAX runs everywhere."""
    return None


def make_engine(spec: KernelSpec, threads: int) -> BandedEngine:
    """The engine for `spec`, one for all workers of a process; XLA chooses its own threads."""
    del threads
    return _engine(spec)


@functools.lru_cache(maxsize=8)
def _engine(spec: KernelSpec) -> BandedEngine:
    def cross(network: BandedNetwork, *images: Array) -> Array:
        return banded_xla.cross_kernel(network, spec.kind, *images)

    def cross_vjp(
        network: BandedNetwork, images: FlatImages, cotangent: Array, *, both: bool
    ) -> tuple[Array, ...]:
        first, second = images[:2], images[2:]
        if both:
            kernel, pullback = jax.vjp(functools.partial(cross, network), *images)
        else:
            kernel, pullback = jax.vjp(lambda x, v: cross(network, x, v, *second), *first)
        return kernel, *pullback(cotangent)

    def variance_vjp(network: BandedNetwork, images: Array, cotangent: Array) -> Array:
        maps = functools.partial(banded_xla.variance_maps, network)
        return jax.vjp(maps, images)[1](cotangent)[0]

    return BandedEngine(
        "banded_xla",
        xla_arithmetic(),
        spec,
        banded_xla.variance_maps,
        variance_vjp,
        cross,
        cross_vjp,
    )
