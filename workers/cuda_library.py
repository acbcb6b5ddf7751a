"""The parts of NVIDIA's cuda-core and cuda-bindings that kipper uses; both are optional.

The protocols describe them to type checkers where the packages are not installed.
"""

import ctypes
import glob
import importlib
import importlib.util
import os
from collections.abc import Sequence
from typing import Protocol, cast

INSTALL = "pip install 'kipper[cuda]'"
_OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"


class Allocation(Protocol):
    """A part of a device's memory, which is given back with the object."""

    @property
    def handle(self) -> int: ...

    def close(self, stream: "Stream | None" = None) -> None: ...


class Stream(Protocol):
    """Work that is started here runs in order, and beside other streams."""

    @property
    def handle(self) -> object: ...

    def sync(self) -> None: ...


class Properties(Protocol):
    """Numbers of a card."""

    multiprocessor_count: int
    max_shared_memory_per_block_optin: int
    max_shared_memory_per_multiprocessor: int


class Card(Protocol):
    """`cuda.core.Device`."""

    @property
    def name(self) -> str: ...

    @property
    def arch(self) -> str: ...

    @property
    def properties(self) -> Properties: ...

    def set_current(self) -> object: ...

    def create_stream(self) -> Stream: ...

    def allocate(self, size: int, *, stream: Stream) -> Allocation: ...


class Kernel(Protocol):
    """A function of a program, loaded."""

    @property
    def handle(self) -> object: ...


class ObjectCode(Protocol):
    """A compiled program."""

    def get_kernel(self, name: str) -> Kernel: ...


class Cache(Protocol):
    """Compiled programs on disk, by their source, options and compiler."""


class ProgramText(Protocol):
    """The text of a program."""

    def compile(self, target_type: str, *, cache: Cache | None = None) -> ObjectCode: ...


class _CoreModule(Protocol):
    def Device(self, device_id: int) -> Card: ...

    def ProgramOptions(
        self,
        *,
        arch: str,
        std: str,
        device_as_default_execution_space: bool,
        diag_suppress: list[int],
    ) -> object: ...

    def Program(self, code: str, code_type: str, options: object) -> ProgramText: ...

    def LaunchConfig(self, *, grid: int, block: int, shmem_size: int) -> object: ...

    def launch(
        self, stream: Stream, config: object, kernel: Kernel, *arguments: object
    ) -> None: ...


class _UtilsModule(Protocol):
    def FileStreamProgramCache(self, path: str, *, max_size_bytes: int) -> Cache: ...


class _FunctionAttributes(Protocol):
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: object


class _DriverModule(Protocol):
    CUfunction_attribute: _FunctionAttributes

    def cuDriverGetVersion(self) -> tuple[object, int]: ...

    def cuMemGetInfo(self) -> tuple[object, int, int]: ...

    def cuMemcpyHtoDAsync(
        self, destination: int, source: int, size: int, stream: object
    ) -> tuple[object]: ...

    def cuMemcpyDtoHAsync(
        self, destination: int, source: int, size: int, stream: object
    ) -> tuple[object]: ...

    def cuKernelSetAttribute(
        self, attribute: object, value: int, kernel: object, device: int
    ) -> tuple[object]: ...


class _NvrtcModule(Protocol):
    def nvrtcVersion(self) -> tuple[object, int, int]: ...


class CudaError(Exception):
    """A function of the driver failed."""


class CudaLibrary:
    """The modules of both packages, imported.

    Raises:
        ImportError: they are not installed, or do not fit each other.
    """

    def __init__(self) -> None:
        self.core = cast(_CoreModule, importlib.import_module("cuda.core"))
        self.utils = cast(_UtilsModule, importlib.import_module("cuda.core.utils"))
        self.driver = cast(_DriverModule, importlib.import_module("cuda.bindings.driver"))
        self.nvrtc = cast(_NvrtcModule, importlib.import_module("cuda.bindings.nvrtc"))


def checked(results: Sequence[object]) -> None:
    """Checks the first of the results of a function of cuda-bindings.

    Raises:
        MemoryError: the device has too little memory.
        CudaError: something else failed.
    """
    status = results[0]
    if int(cast(int, status)):
        raise error_of(str(status))


def error_of(message: str) -> Exception:
    """The exception for a message of the driver or of cuda-core."""
    return MemoryError(message) if _OUT_OF_MEMORY in message else CudaError(message)


def nvidia_gpu_visible() -> bool:
    """Whether this process may use a GPU of NVIDIA; starts no device.

    JAX_PLATFORMS=cpu says that it must not, as CUDA_VISIBLE_DEVICES may.
    """
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return False
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() in ("", "-1"):
        return False
    return bool(glob.glob("/dev/nvidia[0-9]*") or os.path.exists("/dev/dxg"))


def unavailable() -> str | None:
    """One sentence on why no GPU of NVIDIA can be used; None if one can. Starts no device."""
    if not nvidia_gpu_visible():
        return (
            "This process sees no GPU of NVIDIA, or CUDA_VISIBLE_DEVICES or JAX_PLATFORMS keeps it "
            "from using one."
        )
    for module in ("cuda.core", "cuda.bindings.nvrtc"):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"Kernels on a GPU need cuda-core, which is not installed: {INSTALL}."
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "Kernels on a GPU need NVIDIA's driver, and libcuda.so.1 is not found."
    return None
