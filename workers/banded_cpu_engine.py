"""The banded engine in native code, for CPUs."""

import functools
from collections.abc import Sequence

import numpy as np

from kipper.common.architecture import KernelSpec
from kipper.workers import banded_cpu
from kipper.workers.arithmetic import banded_arithmetic
from kipper.workers.banded_engine import AnyArray, BandedEngine, flat
from kipper.workers.bands import BandedNetwork
from kipper.workers.engine import PreparedImages, Pullback
from kipper.workers.self_check import check_native


def unavailable() -> str | None:
    """See `banded_cpu.unavailable`."""
    return banded_cpu.unavailable()


def make_engine(spec: KernelSpec, threads: int) -> BandedEngine:
    """The engine for `spec`, one for all workers of a process, after a check of its results.

    Raises:
        WorkerError: see `check_native`.
    """
    check_native(spec, unchecked_engine)
    return unchecked_engine(spec, threads)


@functools.lru_cache(maxsize=8)
def unchecked_engine(spec: KernelSpec, threads: int) -> "NativeBandedEngine":
    """The engine for `spec` as the check of its results uses it."""
    return NativeBandedEngine(spec, threads)


class NativeBandedEngine(BandedEngine):
    """Can keep the outputs of stages for the pullback, which changes no bit of its result."""

    def __init__(self, spec: KernelSpec, threads: int):
        def cross(
            network: BandedNetwork, x1: PreparedImages, x2: PreparedImages
        ) -> tuple[np.ndarray, np.ndarray]:
            images = flat(x1, x2)
            return banded_cpu.judged_cross_kernel(network, spec.kind, *images, threads=threads)

        def cross_vjp(
            network: BandedNetwork,
            x1: PreparedImages,
            x2: PreparedImages,
            cotangent: np.ndarray,
            kept: np.ndarray | None = None,
            *,
            both: bool,
        ) -> tuple[np.ndarray, ...]:
            images = flat(x1, x2)
            return banded_cpu.cross_kernel_vjp(
                network, spec.kind, *images, cotangent, both=both, kept=kept, threads=threads
            )

        super().__init__(
            "banded_cpu",
            banded_arithmetic(),
            spec,
            functools.partial(banded_cpu.variance_maps, threads=threads),
            functools.partial(banded_cpu.variance_maps_vjp, threads=threads),
            cross,
            cross_vjp,
            lambda: unchecked_engine(spec.in_float64, threads),
            None,
        )
        self._threads = threads

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        network, images = self._network(x1.images), flat(x1, x2)
        rounded, kept, endangered = banded_cpu.linearised_cross_kernel(
            network, self._spec.kind, *images, threads=self._threads
        )

        def pull_back(cotangent: np.ndarray) -> Sequence[AnyArray]:
            return self._cross_vjp(network, x1, x2, cotangent, kept, both=both)[2:]

        return self._with_pullback(x1, x2, rounded, endangered, pull_back)

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        del both
        network, dtype = self._network(x1.images), x1.images.dtype
        pairs = len(x1.images), len(x2.images)
        return dtype.itemsize * banded_cpu.kept_values(network, self._spec.kind, *pairs, dtype)
