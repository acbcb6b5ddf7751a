"""A GPU's kernels on the CPU: workers/native/cuda, compiled with g++ for warps of vectors.

Accesses of shared memory are checked, see native/cuda/simulated/lanes.hpp.
"""

import ctypes
import dataclasses
import fcntl
import os
import pathlib
import shlex
import subprocess
import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from kipper.workers import native
from kipper.workers.cuda_plan import KernelPlan, NetworkPlan, StagePlan
from kipper.workers.device import DeviceFunction

_NATIVE = pathlib.Path(native.__file__).parent
CUDA = _NATIVE / "cuda"
SOURCE = CUDA / "simulated" / "simulated.cpp"
COMPILER = shlex.split(os.environ.get("CXX") or "g++")
INCLUDES = [f"-I{folder}" for folder in (CUDA / "simulated", CUDA, _NATIVE)]
# Vectors of 32 lanes have no customary way to be passed to functions, hence psabi.
FLAGS = (
    *("-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-psabi"),
)


def _structure(name: str, plan: type, *more: tuple[str, type]) -> type[ctypes.Structure]:
    kinds = {int: ctypes.c_int, float: ctypes.c_double}
    fields = [(field.name, kinds[field.type]) for field in dataclasses.fields(plan)]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_Stage, _Plan = _structure("Stage", StagePlan), _structure("Plan", NetworkPlan)


class _Launch(ctypes.Structure):
    _fields_ = (
        ("plan", ctypes.POINTER(_Plan)),
        ("stages", ctypes.POINTER(_Stage)),
        *((name, ctypes.c_int) for name in ("stage_count", "tangent", "images")),
        *((name, ctypes.c_int) for name in ("blocks", "warps")),
        ("counts", ctypes.c_int * 6),
    )


class SimulatedGpu:
    """A device for `banded_cuda`, with a library that `build` made and so many bytes of memory."""

    arithmetic = "a simulated GPU"

    def __init__(
        self, library: pathlib.Path, *, blocks: int = 2, warps: int = 3, memory: int = 2**30
    ):
        self._library = ctypes.CDLL(os.fspath(library))
        self._blocks, self._warps = blocks, warps
        self.memory = self.free = memory
        self.launches: list[DeviceFunction] = []
        self.written = 0  # bytes

    def empty(self, count: int, dtype: np.dtype) -> np.ndarray:
        buffer = np.full(count, np.nan if dtype.kind == "f" else -1, dtype)
        if buffer.nbytes > self.free:
            raise MemoryError(f"no room for {buffer.nbytes} bytes in {self.free}")
        self.free -= buffer.nbytes
        weakref.finalize(buffer, self._give_back, buffer.nbytes)
        return buffer

    def write(self, buffer: np.ndarray, start: int, values: np.ndarray) -> None:
        assert buffer.dtype == values.dtype
        buffer[start : start + values.size] = values.ravel()
        self.written += values.nbytes

    def finish(self) -> None:
        pass

    def download(self, buffer: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return buffer[: np.prod(shape, dtype=int)].reshape(shape).copy()

    def launch(
        self,
        function: DeviceFunction,
        plan: KernelPlan,
        images: int,
        counts: Sequence[int],
        buffers: Sequence[np.ndarray | None],
    ) -> None:
        self.launches.append(function)
        pointers = [0 if buffer is None else buffer.ctypes.data for buffer in buffers]
        dtype = buffers[0].dtype.name
        grid = self._blocks, self._warps
        run(self._library, function, plan, images, counts, pointers, dtype, grid)

    def _give_back(self, size: int) -> None:
        self.free += size


def run(
    library: ctypes.CDLL,
    function: DeviceFunction,
    plan: KernelPlan,
    images: int,
    counts: Sequence[int],
    pointers: Sequence[int],
    dtype: str,
    grid: tuple[int, int],
) -> None:
    """Runs a function as `Device.launch`, on arrays at addresses, by (blocks, warps)."""
    stages = (_Stage * len(plan.stages))(
        *(_Stage(*dataclasses.astuple(stage)) for stage in plan.stages)
    )
    launch = _Launch(
        ctypes.pointer(_Plan(*dataclasses.astuple(plan.rest))),
        stages,
        *(len(stages), plan.tangent, images, *grid),
        (ctypes.c_int * 6)(*counts),
    )
    message = ctypes.create_string_buffer(256)
    arrays = (ctypes.c_void_p * len(pointers))(*pointers)
    name = f"{function.removesuffix('_vjp')}_{dtype}"
    if getattr(library, name)(ctypes.byref(launch), arrays, message):
        raise RuntimeError(message.value.decode())


def shared_library(factory: pytest.TempPathFactory) -> pathlib.Path:
    """The library, which the processes of a test run build once."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    library = folder / "simulated_gpu.so"
    with (folder / "simulated_gpu.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            build(library, "-Og")  # more takes longer to compile than it saves
    return library


def build(library: pathlib.Path, *flags: str) -> None:
    """Compiles the kernels."""
    command = [*COMPILER, *FLAGS, *INCLUDES, *flags, os.fspath(SOURCE), "-o", os.fspath(library)]
    subprocess.run(command, check=True)
