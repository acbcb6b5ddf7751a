"""A GPU of NVIDIA as a `Device`, by cuda-core: streams, memory, programs compiled at run time."""

import collections
import dataclasses
import importlib.metadata
import math
import os
import pathlib
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from kipper.common.errors import WorkerError
from kipper.workers import cuda_source
from kipper.workers.cuda_library import Allocation, CudaLibrary, Kernel, Stream, checked, error_of
from kipper.workers.cuda_plan import WARP, KernelPlan
from kipper.workers.device import DeviceFunction

_Result = TypeVar("_Result")
# Of the memory that is free when the device is first used; JAX and others take some later.
_SHARE = 0.8
# Of a multiprocessor, which leaves each thread 102 registers for K and 128 otherwise.
_WARPS: dict[DeviceFunction, int] = {"cross": 20}
_OTHER_WARPS = 16
_MOST_BLOCKS = 4  # of a multiprocessor
_GLOBAL_BLOCKS = 2  # where the workspaces are in global memory
_RESERVED = 1024  # bytes of shared memory that CUDA takes for each block
_CACHED_BYTES = 2**28
# A function, its plan, the images whose cotangents are wanted, the dtype.
_Key = tuple[DeviceFunction, KernelPlan | None, int, str]


@dataclasses.dataclass(frozen=True, eq=False)
class CudaBuffer:
    """An array on the device."""

    memory: Allocation
    count: int
    dtype: np.dtype


class Geometry(NamedTuple):
    """How a function is launched.

    Attributes:
        warps: the warps of a block.
        blocks: the blocks of a multiprocessor at once.
        shared: bytes of a block's shared memory.
        workspace: bytes of a block's part of an array in global memory; 0 if there is none.
    """

    warps: int
    blocks: int
    shared: int
    workspace: int


class _Loaded(NamedTuple):
    kernel: Kernel
    geometry: Geometry


def geometry(
    function: DeviceFunction, workspace: int, of_block: int, of_multiprocessor: int
) -> Geometry:
    """The geometry for a workspace of so many bytes, in shared memory if it fits.

    Args:
        function: what is launched.
        workspace: bytes that a block needs.
        of_block: bytes of shared memory that a block may have.
        of_multiprocessor: bytes of shared memory of a multiprocessor.
    """
    if function == "sum_pairs":
        return Geometry(8, 8, 0, 0)
    warps = _WARPS.get(function, _OTHER_WARPS)
    fit = of_multiprocessor // (workspace + _RESERVED)
    if workspace > of_block or not fit:
        return Geometry(warps // _GLOBAL_BLOCKS, _GLOBAL_BLOCKS, 0, workspace)
    blocks = min(fit, _MOST_BLOCKS)
    return Geometry(warps // blocks, blocks, workspace, 0)


class CudaDevice:
    """See `Device`. Each thread has a stream of its own, so that the copies of one block and the
    kernels of another one overlap.

    Args:
        library: cuda-core.
        cache: where compiled programs are kept; those of all kernels take at most 256 MB.

    Raises:
        WorkerError: the device does not start.
    """

    def __init__(self, library: CudaLibrary, cache: pathlib.Path):
        self._library = library
        self._local = threading.local()
        self._lock = threading.Lock()
        self._loaded: dict[_Key, _Loaded] = {}
        self._compiling = threading.Lock()
        self._in_use = 0
        # Bytes of arrays that were deleted, which may happen at any time, also within `_lock`.
        self._returned: collections.deque[int] = collections.deque()
        try:
            # The first one that CUDA_VISIBLE_DEVICES leaves.
            self._card = library.core.Device(0)
            self._card.set_current()
            memory, version = library.driver.cuMemGetInfo(), library.nvrtc.nvrtcVersion()
            checked(memory)
            checked(version)
            cache.mkdir(parents=True, exist_ok=True)
            self._cache = library.utils.FileStreamProgramCache(
                os.fspath(cache), max_size_bytes=_CACHED_BYTES
            )
        except Exception as error:  # its many exceptions have no public base
            raise WorkerError(f"The GPU cannot be used: {error}") from error
        self._folder, self._nvrtc = cache, version[1:]
        self.memory = int(memory[1] * _SHARE)
        self.arithmetic = (
            f"CUDA code {cuda_source.sources_hash()} by NVRTC {version[1]}.{version[2]} on "
            f"{self._card.name} (sm_{self._card.arch})"
        )

    def described(self) -> str:
        """The card and its driver, what compiles for it, and what is kept where."""
        driver = self._library.driver.cuDriverGetVersion()
        checked(driver)
        core = importlib.metadata.version("cuda-core")
        return (
            f"{self._card.name} (sm_{self._card.arch}), driver for CUDA {driver[1] // 1000}."
            f"{driver[1] % 1000 // 10}; cuda-core {core}, NVRTC {'.'.join(map(str, self._nvrtc))}, "
            f"programs in {self._folder}; arrays take up to {self.memory / 2**30:.1f} GiB"
        )

    def empty(self, count: int, dtype: np.dtype) -> CudaBuffer:
        return CudaBuffer(self._allocate(max(count, 1) * dtype.itemsize), count, dtype)

    def write(self, buffer: CudaBuffer, start: int, values: np.ndarray) -> None:
        # From memory that is not pinned, the driver copies before it returns.
        given = np.ascontiguousarray(values, buffer.dtype)
        place = int(buffer.memory.handle) + start * given.itemsize
        checked(
            self._library.driver.cuMemcpyHtoDAsync(
                place, given.ctypes.data, given.nbytes, self._stream.handle
            )
        )

    def finish(self) -> None:
        _translated(self._stream.sync)

    def download(self, buffer: CudaBuffer, shape: tuple[int, ...]) -> np.ndarray:
        values = np.empty(shape, buffer.dtype)
        if values.size:
            checked(
                self._library.driver.cuMemcpyDtoHAsync(
                    values.ctypes.data,
                    int(buffer.memory.handle),
                    values.nbytes,
                    self._stream.handle,
                )
            )
        _translated(self._stream.sync)
        return values

    def launch(
        self,
        function: DeviceFunction,
        plan: KernelPlan,
        images: int,
        counts: Sequence[int],
        buffers: Sequence[CudaBuffer | None],
    ) -> None:
        first = buffers[0]
        assert first is not None
        loaded = self._function(function, plan, images, first.dtype)
        blocks, scratch = self._scratch(loaded.geometry, _work(function, counts))
        arrays = [None if buffer is None else buffer.memory for buffer in buffers]
        if function != "sum_pairs":
            arrays.append(scratch)
        pointers = [np.uint64(0) if array is None else array for array in arrays]
        arguments = [*map(np.int32, counts), *pointers]
        core, stream = self._library.core, self._stream
        config = core.LaunchConfig(
            grid=blocks,
            block=WARP * loaded.geometry.warps,
            shmem_size=loaded.geometry.shared,
        )
        _translated(lambda: core.launch(stream, config, loaded.kernel, *arguments))

    @property
    def _stream(self) -> Stream:
        """This thread's."""
        if not hasattr(self._local, "stream"):
            _translated(self._card.set_current)
            self._local.stream = _translated(self._card.create_stream)
        stream: Stream = self._local.stream
        return stream

    def _allocate(self, size: int) -> Allocation:
        with self._lock:
            while self._returned:
                self._in_use -= self._returned.popleft()
            if self._in_use + size > self.memory:
                raise MemoryError(
                    f"{size} bytes more than {self._in_use} exceed the {self.memory} of the device "
                    "that arrays may take."
                )
            self._in_use += size
        stream = self._stream
        try:
            memory = _translated(lambda: self._card.allocate(size, stream=stream))
        except BaseException:
            self._returned.append(size)
            raise
        weakref.finalize(memory, self._returned.append, size)
        return memory

    def _scratch(self, geometry: Geometry, work: int) -> tuple[int, Allocation | None]:
        """The number of blocks, and their workspaces in global memory; fewer if it is little."""
        blocks = min(geometry.blocks * self._card.properties.multiprocessor_count, work)
        while geometry.workspace:
            try:
                return blocks, self._allocate(blocks * geometry.workspace)
            except MemoryError:
                if blocks == 1:
                    raise
                blocks //= 2
        return blocks, None

    def _function(
        self, function: DeviceFunction, plan: KernelPlan, images: int, dtype: np.dtype
    ) -> _Loaded:
        """The function, compiled on first use."""
        key = function, None if function == "sum_pairs" else plan, images, dtype.name
        with self._compiling:
            if key not in self._loaded:
                self._loaded[key] = self._load(function, plan, images, dtype)
            return self._loaded[key]

    def _load(
        self, function: DeviceFunction, plan: KernelPlan, images: int, dtype: np.dtype
    ) -> _Loaded:
        properties = self._card.properties
        shape = geometry(
            function,
            plan.rest.workspace * dtype.itemsize,
            properties.max_shared_memory_per_block_optin,
            properties.max_shared_memory_per_multiprocessor,
        )
        source = cuda_source.program(
            function,
            plan,
            dtype.name,
            images=images,
            warps=shape.warps,
            blocks=shape.blocks,
            shared=shape.shared > 0,
        )
        core = self._library.core
        options = core.ProgramOptions(
            arch=f"sm_{self._card.arch}",
            std=cuda_source.STANDARD,
            device_as_default_execution_space=True,
            diag_suppress=cuda_source.SUPPRESSED,
        )
        code = _translated(
            lambda: core.Program(source, "c++", options).compile("cubin", cache=self._cache)
        )
        kernel = _translated(lambda: code.get_kernel(function.removesuffix("_vjp")))
        if shape.shared:
            driver = self._library.driver
            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            checked(driver.cuKernelSetAttribute(attribute, shape.shared, kernel.handle, 0))
        return _Loaded(kernel, shape)


def _work(function: DeviceFunction, counts: Sequence[int]) -> int:
    """The blocks that have something to do."""
    if function == "sum_pairs":
        count1, count2, _, side, of_image, _ = counts
        return -(-(count2 if side else count1) * of_image // (8 * WARP))
    return math.prod(counts[:2])  # images, or pairs


def _translated(call: Callable[[], _Result]) -> _Result:
    """The result of a call of cuda-core, whose exceptions have no public base.

    Raises:
        MemoryError: the device has too little memory.
        CudaError: something else failed.
    """
    try:
        return call()
    except Exception as error:
        raise error_of(f"{type(error).__name__}: {error}") from error
