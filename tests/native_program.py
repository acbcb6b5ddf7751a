"""The native kernels outside of Python: a small program, `call_native.cpp`, calls their libraries.

Arrays have exactly the sizes that Python would give them.
"""

import pathlib
import subprocess
from collections.abc import Sequence

import numpy as np
from oracle import relative_error

from kipper.common.architecture import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    Relu,
    architecture_named,
)
from kipper.common.native import build as common_build
from kipper.common.precision import enable_x64
from kipper.workers import banded_cpu, dense_cpu, native_library
from kipper.workers.bands import banded_network
from kipper.workers.dense import DenseNetwork
from kipper.workers.native import build as native_build

_NATIVE = [pathlib.Path(build.__file__).parent for build in (common_build, native_build)]
_INCLUDES = (*(f"-I{folder}" for folder in _NATIVE), '-DKIPPER_SOURCES="none"')
_LIBRARY_OF = {"dense": "dense", "dense_vjp": "dense"}  # the others are banded
# For cotangents, which lose more digits than kernels do; see test_banded_cpu.py.
_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

_CONV_LAST = (Conv(), Relu(), AvgPool(), Conv(), Relu(), Flatten(), Dense())
# Image shapes and the sizes of both batches. Odd sides have rows and columns that belong to no
# pooled pixel, most batches leave lanes without an image, some images are smaller than 3x3.
PROBLEMS = {
    "conv_vec1": ((1, 1, 3), (2, 5)),
    "conv_vec3": ((5, 2, 1), (1, 17)),
    "conv_last": ((3, 2, 4), (17, 3)),
    "convnet": ((9, 11, 3), (3, 9)),
    "convnet3": ((13, 8, 1), (2, 4)),
    "myrtle5": ((7, 9, 2), (2, 7)),
    "myrtle10": ((13, 6, 1), (1, 1)),
}


# The sizes of both batches of fully connected kernels.
DENSE_COUNTS = [(3, 5), (2, 301), (70, 64)]


def build_in(
    folder: pathlib.Path, compiler: Sequence[str], levels: Sequence[str], flags: Sequence[str]
) -> None:
    """Builds the program, and the libraries with the compiler $CXX, which must be the same."""
    program = [*compiler, "-std=c++17", "-pthread", "-Wall", "-Wextra", "-Werror", *flags]
    source = pathlib.Path(__file__).with_name("workers") / "call_native.cpp"
    program += [*_INCLUDES, source, "-o", folder / "call_native", "-ldl"]
    subprocess.run(program, check=True)
    outcome = native_build.compile_levels(folder, levels=levels, extra_flags=("-Werror", *flags))
    assert outcome.complete, outcome.sentence


def network_of(name, shape):
    fixed = Architecture(name, _CONV_LAST) if name == "conv_last" else architecture_named(name)
    return banded_network(fixed, *shape[:2])


def _described(kind, name, value):
    """A value as call_native.cpp reads it; of a result, only its shape."""
    words = (kind, name, value.dtype.name, len(value.shape), *value.shape)
    data = b"" if kind == "result" else np.asarray(value).tobytes()
    return " ".join(map(str, words)).encode() + b"\n" + data


def call_in(folder, emulator=()):
    """A replacement for `entry_point` that calls a library of the folder."""

    def call(name, like, shapes, level):
        dtype = np.dtype(like.dtype)
        results = [np.empty(shape, dtype) for shape in shapes]

        def run(*arguments, **attributes):
            values = [_described("argument", "-", value) for value in arguments]
            values += [_described("result", "-", value) for value in results]
            values += [
                _described("attribute", key, np.asarray(value * 1))  # flags are integers
                for key, value in attributes.items()
            ]
            library = folder / f"{_LIBRARY_OF.get(name, 'banded')}_{level}.so"
            command = [*emulator, folder / "call_native", library, f"kipper_{name}_{dtype.name}"]
            done = subprocess.run(command, input=b"".join(values), capture_output=True)
            assert done.returncode == 0, done.stderr.decode()
            flat = np.frombuffer(done.stdout, dtype)
            ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
            pieces = np.split(flat, ends[:-1])
            return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]

        return run

    return call


def check_every_pass(monkeypatch, call, name, level, dtype, vector_bytes):
    """Compares all passes of a problem by `call` with those of the installed libraries."""
    shape, counts = PROBLEMS[name]
    network = network_of(name, shape)
    rng = np.random.default_rng(0)
    x1, x2 = (rng.normal(size=(count, *shape)).astype(dtype) for count in counts)
    cotangent = rng.normal(size=counts).astype(dtype)
    with enable_x64(dtype == "float64"):
        expected = _passes(network, x1, x2, cotangent)
        monkeypatch.setattr(banded_cpu, "entry_point", call)
        monkeypatch.setattr(native_library, "_vector_bytes", lambda *_: vector_bytes)
        results = _passes(network, x1, x2, cotangent, level)
    for got, want in zip(results, expected, strict=True):
        assert np.isfinite(got).all()
        assert relative_error(np.asarray(got), np.asarray(want)) < _TOLERANCE[dtype]


def _passes(network, x1, x2, cotangent, level=None):
    """The results of all passes, in a list."""
    v1 = banded_cpu.variance_maps(network, x1, level=level)
    v2 = banded_cpu.variance_maps(network, x2, threads=2, level=level)
    pulled = banded_cpu.variance_maps_vjp(network, x2, v2, threads=2, level=level)
    inputs, results = (x1, v1, x2, v2), [v1, v2, pulled]
    for x, v in ((x1, v1), (x2, v2)):
        results.append(banded_cpu.variance_maps_vjp(network, x, v, threads=2, level=level))
    for kind, threads in (("ntk", 1), ("nngp", 2)):
        options = {"threads": threads, "level": level}
        results.append(banded_cpu.cross_kernel(network, kind, *inputs, **options))
        kernel, kept, _ = banded_cpu.linearised_cross_kernel(network, kind, *inputs, **options)
        results.append(kernel)
        for both, given in ((True, None), (False, None), (True, kept), (False, kept)):
            kernel, _, *pulled = banded_cpu.cross_kernel_vjp(
                network, kind, *inputs, cotangent, both=both, kept=given, **options
            )
            results += [kernel, *pulled]
        listed = [side[: min(map(len, (x1, x2)))] for side in inputs]
        results.append(banded_cpu.listed_kernels(network, kind, *listed, **options)[0])
        kernels, _, *pulled = banded_cpu.listed_kernels_vjp(
            network, kind, *listed, cotangent.ravel()[: len(listed[0])], **options
        )
        results += [kernels, *pulled]
    return results


def check_fully_connected(monkeypatch, call, counts, level, dtype):
    """Compares kernels and cotangents by `call` with those of the installed library."""
    network, rng = DenseNetwork(hidden=3, w2=2.0, b2=0.01), np.random.default_rng(0)
    gaps, cotangent = rng.uniform(0, 1.9, counts), rng.normal(size=counts)
    gaps[0, 0] = 0
    rms1, rms2 = (rng.uniform(0.5, 2, count) for count in counts)
    *inputs, cotangent = (array.astype(dtype) for array in (gaps, rms1, rms2, cotangent))

    def passes(level=None):
        results = []
        for kind, threads in (("ntk", 1), ("nngp", 2)):
            options = {"threads": threads, "level": level}
            results.append(dense_cpu.kernel(network, kind, *inputs, **options))
            results += dense_cpu.kernel_vjp(network, kind, *inputs, cotangent, **options)
        return results

    with enable_x64(dtype == "float64"):
        expected = passes()
        monkeypatch.setattr(dense_cpu, "entry_point", call)
        for got, want in zip(passes(level), expected, strict=True):
            assert relative_error(np.asarray(got), np.asarray(want)) < _TOLERANCE[dtype]
