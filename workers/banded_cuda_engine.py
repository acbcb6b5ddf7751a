"""The banded engine for GPUs of NVIDIA."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Generic

import numpy as np

from kipper.common.architecture import KernelSpec
from kipper.common.errors import WorkerError
from kipper.workers import banded_cuda, cuda_library
from kipper.workers.banded_engine import AnyArray, BandedEngine
from kipper.workers.cuda_device import CudaBuffer, CudaDevice
from kipper.workers.device import Buffer
from kipper.workers.engine import PreparedImages, Pullback
from kipper.workers.resident_images import Residency
from kipper.workers.self_check import check_native

unavailable = cuda_library.unavailable


def make_engine(spec: KernelSpec, threads: int) -> BandedEngine:
    """The engine for `spec`, one for all workers of a process, after a check of its results.

    Raises:
        WorkerError: the GPU does not start, or see `check_native`.
    """
    check_native(spec, unchecked_engine)
    return unchecked_engine(spec, threads)


@functools.lru_cache(maxsize=8)
def unchecked_engine(spec: KernelSpec, threads: int) -> BandedEngine:
    """The engine for `spec` as the check of its results uses it."""
    del threads  # the host has little to do
    return engine_on(cuda_residency(), spec)


@functools.cache
def cuda_residency() -> Residency[CudaBuffer]:
    """The images that this process keeps on its GPU; raises as `cuda_device`."""
    return Residency(cuda_device())


@functools.cache
def cuda_device() -> CudaDevice:
    """This process's GPU.

    Raises:
        WorkerError: it does not start.
    """
    # JAX would otherwise take most of the GPU's memory when it starts.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        library = cuda_library.CudaLibrary()
    except ImportError as error:
        raise WorkerError(f"cuda-core cannot be imported: {error}") from error
    folder = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return CudaDevice(library, pathlib.Path(folder) / "kipper" / "cuda")


def engine_on(residency: Residency[Buffer], spec: KernelSpec) -> "CudaBandedEngine[Buffer]":
    """The engine for `spec` on a device."""
    return CudaBandedEngine(residency, spec)


class CudaBandedEngine(BandedEngine, Generic[Buffer]):
    """Can keep the outputs of stages on the device, which changes no bit of a pullback's result.

    They are forgotten where others need the room; then the pullback computes them again.
    """

    def __init__(self, residency: Residency[Buffer], spec: KernelSpec):
        self._kernel = banded_cuda.BandedCuda(residency, spec.kind)
        super().__init__(
            "banded_cuda",
            residency.device.arithmetic,
            spec,
            functools.partial(banded_cuda.variance_maps, residency.device),
            functools.partial(banded_cuda.variance_maps_vjp, residency.device),
            self._kernel.judged_cross_kernel,
            self._kernel.cross_kernel_vjp,
            functools.cache(lambda: engine_on(residency, spec.in_float64)),
            None,
        )

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        network = self._network(x1.images)
        rounded, endangered, kept = self._kernel.linearised_cross_kernel(network, x1, x2)

        def pull_back(cotangent: np.ndarray) -> Sequence[AnyArray]:
            outputs = kept.array if kept is not None else None
            if outputs is None:
                return self._cross_vjp(network, x1, x2, cotangent, both=both)[2:]
            return self._kernel.pulled_back(network, x1, x2, cotangent, outputs, both=both)

        return self._with_pullback(x1, x2, rounded, endangered, pull_back)

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        # Outputs have a bound of their own, of the device's memory.
        del both
        images = sum(side.images.nbytes + side.features.nbytes for side in (x1, x2))
        return images + len(x1.images) * len(x2.images)
