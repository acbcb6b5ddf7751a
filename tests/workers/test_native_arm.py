"""The native code built for 64-bit ARM by a cross compiler, and run on an emulated processor.

Its results are compared with those of this processor's libraries. Debian has what is needed:
`apt install g++-aarch64-linux-gnu qemu-user`.
"""

import pathlib
import shutil
import subprocess

import pytest
from native_program import (
    DENSE_COUNTS,
    PROBLEMS,
    build_in,
    call_in,
    check_every_pass,
    check_fully_connected,
)

from kipper.common.native.build import HERE, LEVELS
from kipper.workers import banded_cpu

pytestmark = pytest.mark.slow  # compiles for half a minute; `make sanitize` runs it

LEVEL = "armv8-a"
COMPILER = "aarch64-linux-gnu-g++"


@pytest.fixture(scope="module")
def emulator():
    """The command that runs programs for ARM, with the cross compiler's libraries."""
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if shutil.which(COMPILER) is None or found is None:
        pytest.skip(f"needs {COMPILER} and qemu-aarch64")
    return (found, "-L", "/usr/aarch64-linux-gnu")


@pytest.fixture(scope="module")
def call(tmp_path_factory, emulator):
    """A replacement for `entry_point` that runs the libraries for ARM."""
    if reason := banded_cpu.unavailable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("arm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", COMPILER)
        build_in(folder, [COMPILER], [LEVEL], [])
    return call_in(folder, emulator)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_kernels_and_cotangents_are_those_of_this_processor(monkeypatch, call, name, dtype):
    check_every_pass(monkeypatch, call, name, LEVEL, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("counts", DENSE_COUNTS)
def test_fully_connected_kernels_are_those_of_this_processor(monkeypatch, call, counts, dtype):
    check_fully_connected(monkeypatch, call, counts, LEVEL, dtype)


def test_linear_algebra_solves_its_systems(tmp_path, emulator):
    program = tmp_path / "call_linalg"
    source = pathlib.Path(__file__).parents[1] / "common" / "call_linalg.cpp"
    command = [COMPILER, "-O2", "-std=c++17", "-pthread", "-ffp-contract=off", "-Wall", "-Wextra"]
    command += ["-Werror", f"-I{HERE}", *LEVELS[LEVEL], source, "-o", program]
    subprocess.run(command, check=True)
    called = subprocess.run([*emulator, program], capture_output=True, text=True)
    assert called.returncode == 0, called.stderr
