"""The native kernels under the address and undefined-behaviour sanitizers, outside of Python.

The program of `native_program.py` calls a library that was built with sanitizers. It fails if the
library reads beyond the end of an array or overflows. Values are compared too, because nothing else
runs the kernels as they are built for processors other than x86-64 and ARM.
"""

import os
import shlex
import subprocess

import numpy as np
import pytest
from native_program import (
    DENSE_COUNTS,
    PROBLEMS,
    build_in,
    call_in,
    check_every_pass,
    check_fully_connected,
    network_of,
)

from kipper.workers import banded_cpu, dense_cpu

pytestmark = pytest.mark.slow  # compiles for a minute; `make sanitize` runs it

COMPILER = shlex.split(os.environ.get("CXX") or "g++")
# -O0, so that no access is optimised away before it is watched (and it compiles in half the time
# of -O1); -g1 for line numbers; -D to check the indices of vectors.
SANITIZERS = (
    *("-O0", "-g1", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"),
    "-fsanitize=address,undefined,float-cast-overflow",
)
LEVELS = {"x86-64-v3": 32, "native": 16}  # with the bytes of a vector


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
    build_in(folder, COMPILER, list(LEVELS), SANITIZERS)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_pass_ends_without_complaint(monkeypatch, folder, name, level, dtype):
    if level != "native" and level not in banded_cpu.runnable_levels():
        pytest.skip(f"this processor cannot run {level}")
    check_every_pass(monkeypatch, call_in(folder), name, level, dtype, LEVELS[level])


@pytest.mark.parametrize("attribute", ["pooled", "sizes", "bands", "convs"])
def test_attributes_that_do_not_fit_each_other_are_refused(folder, attribute):
    network = network_of("convnet3", (8, 8, 1))
    images = np.zeros((3, 8, 8, 1), np.float32)
    shape = (3, network.variances_per_image)
    call = call_in(folder)("variance_maps", images, [shape], "native")
    # No public function passes attributes that do not fit.
    attributes = banded_cpu._variance_attributes(network, 1)
    attributes[attribute] = attributes[attribute][:-1]
    with pytest.raises(AssertionError, match="shapes of arrays and network do not fit"):
        call(images, **attributes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("counts", DENSE_COUNTS)
def test_fully_connected_kernels_end_without_complaint(monkeypatch, folder, counts, level, dtype):
    if level != "native" and level not in dense_cpu.runnable_levels():
        pytest.skip(f"this processor cannot run {level}")
    check_fully_connected(monkeypatch, call_in(folder), counts, level, dtype)
