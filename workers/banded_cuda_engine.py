"""The banded engine for GPUs of NVIDIA."""

import functools
import os
import pathlib

from kipper.common.architecture import KernelSpec
from kipper.common.errors import WorkerError
from kipper.workers import banded_cuda, cuda_library
from kipper.workers.banded_engine import BandedEngine
from kipper.workers.cuda_device import CudaBuffer, CudaDevice
from kipper.workers.device import Buffer
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


def engine_on(residency: Residency[Buffer], spec: KernelSpec) -> BandedEngine:
    """The engine for `spec` on a device."""
    kernel = banded_cuda.BandedCuda(residency, spec.kind)
    return BandedEngine(
        "banded_cuda",
        residency.device.arithmetic,
        spec,
        functools.partial(banded_cuda.variance_maps, residency.device),
        functools.partial(banded_cuda.variance_maps_vjp, residency.device),
        kernel.judged_cross_kernel,
        kernel.cross_kernel_vjp,
        functools.cache(lambda: engine_on(residency, spec.in_float64)),
        None,
    )
