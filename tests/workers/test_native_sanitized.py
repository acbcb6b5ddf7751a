"""The native kernels under the address and undefined-behaviour sanitizers, outside of Python.

A small program, `call_native.cpp`, calls a library that was built with sanitizers. It fails if the
library reads beyond the end of an array or overflows. Arrays have exactly the sizes that Python
would give them. Values are compared too, because nothing else runs the kernels as they are built
for processors other than x86-64.
"""

import os
import pathlib
import shlex
import subprocess

import numpy as np
import pytest
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
from kipper.workers import banded_cpu, dense_cpu
from kipper.workers.bands import banded_network
from kipper.workers.dense import DenseNetwork
from kipper.workers.native import build as native_build
from kipper.workers.native.build import compile_levels

pytestmark = pytest.mark.slow  # compiles for a minute; `make sanitize` runs it

PROGRAM = pathlib.Path(__file__).with_name("call_native.cpp")
COMPILER = shlex.split(os.environ.get("CXX") or "g++")
# -O0, so that no access is optimised away before it is watched (and it compiles in half the time
# of -O1); -g1 for line numbers; -D to check the indices of vectors.
SANITIZERS = (
    *("-O0", "-g1", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"),
    "-fsanitize=address,undefined,float-cast-overflow",
)
LEVELS = ("x86-64-v3", "native")
NATIVE = [pathlib.Path(build.__file__).parent for build in (common_build, native_build)]
INCLUDES = (*(f"-I{folder}" for folder in NATIVE), '-DKIPPER_SOURCES="none"')
LIBRARY_OF = {"dense": "dense", "dense_vjp": "dense"}  # the others are banded
# For cotangents, which lose more digits than kernels do; see test_banded_cpu.py.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

CONV_LAST = (Conv(), Relu(), AvgPool(), Conv(), Relu(), Flatten(), Dense())
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


def _network(name, shape):
    fixed = Architecture(name, CONV_LAST) if name == "conv_last" else architecture_named(name)
    return banded_network(fixed, *shape[:2])


def _unsupported(folder):
    """Why no sanitized program can be compiled and run here; None if one can."""
    source, program = folder / "empty.cpp", folder / "empty"
    source.write_text("int main() {}\n")
    for command in ([*COMPILER, *SANITIZERS, "-o", program, source], [program]):
        try:
            result = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            return f"{command[0]} cannot be run: {error.strerror}"
        if result.returncode:
            return f"no sanitizers here: {result.stderr.strip().splitlines()[:1]}"
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the sanitized libraries and the program that calls them."""
    folder = tmp_path_factory.mktemp("sanitized")
    if reason := banded_cpu.unavailable() or _unsupported(folder):
        pytest.skip(reason)
    program = [*COMPILER, "-std=c++17", "-pthread", "-Wall", "-Wextra", "-Werror", *SANITIZERS]
    program += [*INCLUDES, PROGRAM, "-o", folder / "call_native", "-ldl"]
    subprocess.run(program, check=True)
    outcome = compile_levels(folder, levels=LEVELS, extra_flags=("-Werror", *SANITIZERS))
    assert outcome.complete, outcome.sentence
    return folder


def _described(kind, name, value):
    """A value as call_native.cpp reads it; of a result, only its shape."""
    words = (kind, name, value.dtype.name, len(value.shape), *value.shape)
    data = b"" if kind == "result" else np.asarray(value).tobytes()
    return " ".join(map(str, words)).encode() + b"\n" + data


def _call_in(folder):
    """A replacement for `entry_point` that calls the sanitized library."""

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
            library = folder / f"{LIBRARY_OF.get(name, 'banded')}_{level}.so"
            command = [folder / "call_native", library, f"kipper_{name}_{dtype.name}"]
            done = subprocess.run(command, input=b"".join(values), capture_output=True)
            assert done.returncode == 0, done.stderr.decode()
            flat = np.frombuffer(done.stdout, dtype)
            ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
            pieces = np.split(flat, ends[:-1])
            return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]

        return run

    return call


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_pass_ends_without_complaint(monkeypatch, folder, name, level, dtype):
    if level != "native" and level not in banded_cpu.runnable_levels():
        pytest.skip(f"this processor cannot run {level}")
    shape, counts = PROBLEMS[name]
    network = _network(name, shape)
    rng = np.random.default_rng(0)
    x1, x2 = (rng.normal(size=(count, *shape)).astype(dtype) for count in counts)
    cotangent = rng.normal(size=counts).astype(dtype)
    with enable_x64(dtype == "float64"):
        expected = _passes(network, x1, x2, cotangent)
        monkeypatch.setattr(banded_cpu, "entry_point", _call_in(folder))
        results = _passes(network, x1, x2, cotangent, level)
    for got, want in zip(results, expected, strict=True):
        assert np.isfinite(got).all()
        assert relative_error(np.asarray(got), np.asarray(want)) < TOLERANCE[dtype]


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
        kernel, kept = banded_cpu.linearised_cross_kernel(network, kind, *inputs, **options)
        results.append(kernel)
        for both, given in ((True, None), (False, None), (True, kept), (False, kept)):
            results += banded_cpu.cross_kernel_vjp(
                network, kind, *inputs, cotangent, both=both, kept=given, **options
            )
    return results


@pytest.mark.parametrize("attribute", ["pooled", "sizes", "bands", "convs"])
def test_attributes_that_do_not_fit_each_other_are_refused(folder, attribute):
    network = _network("convnet3", (8, 8, 1))
    images = np.zeros((3, 8, 8, 1), np.float32)
    shape = (3, network.variances_per_image)
    call = _call_in(folder)("variance_maps", images, [shape], "native")
    # No public function passes attributes that do not fit.
    attributes = banded_cpu._variance_attributes(network, 1)
    attributes[attribute] = attributes[attribute][:-1]
    with pytest.raises(AssertionError, match="shapes of arrays and network do not fit"):
        call(images, **attributes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("counts", [(3, 5), (2, 301), (70, 64)])
def test_fully_connected_kernels_end_without_complaint(monkeypatch, folder, counts, level, dtype):
    if level != "native" and level not in dense_cpu.runnable_levels():
        pytest.skip(f"this processor cannot run {level}")
    network, rng = DenseNetwork(hidden=3, w2=2.0, b2=0.01), np.random.default_rng(0)
    gaps, cotangent = rng.uniform(0, 1.9, counts), rng.normal(size=counts)
    gaps[0, 0] = 0
    q1, q2 = (rng.uniform(0.5, 2, count) for count in counts)
    *inputs, cotangent = (array.astype(dtype) for array in (gaps, q1, q2, cotangent))

    def passes(level=None):
        results = []
        for kind, threads in (("ntk", 1), ("nngp", 2)):
            options = {"threads": threads, "level": level}
            results.append(dense_cpu.kernel(network, kind, *inputs, **options))
            results += dense_cpu.kernel_vjp(network, kind, *inputs, cotangent, **options)
        return results

    with enable_x64(dtype == "float64"):
        expected = passes()
        monkeypatch.setattr(dense_cpu, "entry_point", _call_in(folder))
        for got, want in zip(passes(level), expected, strict=True):
            assert relative_error(np.asarray(got), np.asarray(want)) < TOLERANCE[dtype]
