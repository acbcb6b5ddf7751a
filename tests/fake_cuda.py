"""cuda-core's names as `CudaDevice` uses them, over the memory and the processor of this machine.

Copies and kernels run when their stream is waited for, so that what is used too early has no value.
Kernels are those of the simulated GPU; arguments are compared with the parameters of the program
that was compiled.
"""

import ctypes
import re
import types
import weakref

import numpy as np
import simulated_gpu

_PARAMETERS = re.compile(r"__launch_bounds__\((\d+).*\)\n(\w+)\(([^)]*)\)")


class _Stream:
    def __init__(self, cuda):
        self._cuda = cuda
        self.pending = []
        self.kernels = 0  # that are pending
        self.handle = self

    def sync(self):
        self._cuda.before_wait(self)
        self.kernels = 0
        while self.pending:
            self.pending.pop(0)()


class _Memory:
    def __init__(self, size, stream):
        values = np.full(size, 255, np.uint8)  # NaN as a float
        self.handle = values.ctypes.data
        # Memory is given back in the order of the stream.
        weakref.finalize(self, lambda: stream.pending.append(lambda: values.fill(255)))


class FakeCuda:
    """A card with so many bytes, which runs the library that `simulated_gpu.build` made.

    `programs` are the arguments of cuda_source.program by the text that it returned.
    """

    name = "a fake card"
    arch = "90"
    properties = types.SimpleNamespace(
        multiprocessor_count=2,
        max_shared_memory_per_block_optin=227 * 1024,
        max_shared_memory_per_multiprocessor=228 * 1024,
    )

    def __init__(self, library, programs, *, memory=2**30, refused=0):
        self.core = self.utils = self.driver = self.nvrtc = self
        self.CUfunction_attribute = types.SimpleNamespace(
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="shared"
        )
        self._library, self._programs = ctypes.CDLL(library), programs
        self._memory, self._refused = memory, refused
        self.before_wait = lambda stream: None
        self.launched = []
        self.streams = []
        self.compiled = []

    def Device(self, device_id):
        assert device_id == 0
        return self

    def set_current(self):
        pass

    def create_stream(self):
        self.streams.append(_Stream(self))
        return self.streams[-1]

    def allocate(self, size, *, stream):
        if self._refused:
            self._refused -= 1
            raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed")
        return _Memory(size, stream)

    def cuMemGetInfo(self):
        return 0, self._memory, self._memory

    def nvrtcVersion(self):
        return 0, 12, 9

    def FileStreamProgramCache(self, path, *, max_size_bytes):
        return path

    def cuMemcpyHtoDAsync(self, destination, source, size, stream):
        values = ctypes.string_at(source, size)
        stream.pending.append(lambda: ctypes.memmove(destination, values, size))
        return (0,)

    def cuMemcpyDtoHAsync(self, destination, source, size, stream):
        stream.pending.append(lambda: ctypes.memmove(destination, source, size))
        return (0,)

    def cuKernelSetAttribute(self, attribute, value, kernel, device):
        assert (attribute, device) == ("shared", 0)
        kernel.shared = value
        return (0,)

    def ProgramOptions(self, *, arch, **_):
        assert arch == "sm_90"

    def Program(self, code, code_type, options):
        assert code_type == "c++"

        def compile_it(target, *, cache):
            assert target == "cubin"
            self.compiled.append(code)
            return types.SimpleNamespace(get_kernel=lambda name: _Kernel(code, name))

        return types.SimpleNamespace(compile=compile_it)

    def LaunchConfig(self, **config):
        return types.SimpleNamespace(**config)

    def launch(self, stream, config, kernel, *arguments):
        threads, name, parameters = _PARAMETERS.search(kernel.source).groups()
        names = [each.split()[-1] for each in parameters.split(",")]
        pointers = ["*" in each for each in parameters.split(",")]
        assert name == kernel.name
        assert config.block == int(threads)
        assert config.grid >= 1
        assert config.shmem_size in (0, kernel.shared)
        assert [not isinstance(each, np.int32) for each in arguments] == pointers
        function, plan, dtype, images = self._programs[kernel.source]
        counts = [int(each) for each in arguments if isinstance(each, np.int32)]
        arrays = [each for each in arguments if not isinstance(each, np.int32)]
        if names[-1] == "scratch":
            arrays.pop()
        grid = config.grid, config.block // 32
        self.launched.append((function, config))
        stream.kernels += 1
        stream.pending.append(
            lambda: simulated_gpu.run(
                *(self._library, function, plan, images, counts),
                *([getattr(each, "handle", 0) for each in arrays], dtype, grid),
            )
        )


class _Kernel:
    shared = 0

    def __init__(self, source, name):
        self.source, self.name = source, name
        self.handle = self
