"""The native code built for 64-bit ARM by cross compilers, and run on an emulated processor.

Its results are compared with those of this processor's libraries. Debian has what is needed:
`apt install g++-aarch64-linux-gnu qemu-user clang`; clang uses the libraries of g++.
"""

import pathlib
import shlex
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

from kipper.common.native.build import HERE, compile_linear_algebra, default_levels
from kipper.workers import banded_cpu
from kipper.workers.native.build import compile_levels

pytestmark = pytest.mark.slow  # compiles for half a minute; `make sanitize` runs it

LEVEL = "armv8-a"
# With the bytes of a vector.
COMPILERS = {"aarch64-linux-gnu-g++": 16, "clang++ --target=aarch64-linux-gnu": 32}


@pytest.fixture(scope="module")
def emulator():
    """The command that runs programs for ARM, with the cross compiler's libraries."""
    command = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    root = pathlib.Path("/usr/aarch64-linux-gnu")
    if command is None or not root.exists():
        pytest.skip("needs qemu-aarch64 and the libraries of aarch64-linux-gnu-g++")
    return [command, "-L", str(root)]


@pytest.fixture(scope="module", params=COMPILERS)
def compiler(request):
    """The words of a compiler for ARM, which is $CXX too."""
    words = shlex.split(request.param)
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", request.param)
        yield words


@pytest.fixture(scope="module")
def call(tmp_path_factory, emulator, compiler):
    """A replacement for `entry_point` that runs the libraries for ARM."""
    if reason := banded_cpu.unavailable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("arm")
    build_in(folder, compiler, [LEVEL], [])
    return call_in(folder, emulator)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_kernels_and_cotangents_are_those_of_this_processor(
    monkeypatch, compiler, call, name, dtype
):
    vector_bytes = COMPILERS[shlex.join(compiler)]
    check_every_pass(monkeypatch, call, name, LEVEL, dtype, vector_bytes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("counts", DENSE_COUNTS)
def test_fully_connected_kernels_are_those_of_this_processor(monkeypatch, call, counts, dtype):
    check_fully_connected(monkeypatch, call, counts, LEVEL, dtype)


def test_linear_algebra_solves_its_systems(tmp_path, emulator, compiler):
    program = tmp_path / "call_linalg"
    source = pathlib.Path(__file__).parents[1] / "common" / "call_linalg.cpp"
    command = [*compiler, "-O2", "-std=c++17", "-pthread", "-ffp-contract=off", "-Wall", "-Wextra"]
    subprocess.run([*command, "-Werror", f"-I{HERE}", source, "-o", program], check=True)
    called = subprocess.run([*emulator, program], capture_output=True, text=True)
    assert called.returncode == 0, called.stderr


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("clang++", default_levels()[0]),
        ("python -m ziglang c++ -target aarch64-macos", LEVEL),  # pip install ziglang
    ],
)
def test_other_compilers_and_systems_build_without_a_warning(monkeypatch, tmp_path, words, level):
    if shutil.which(words.split()[0]) is None or subprocess.run([*words.split(), "-v"]).returncode:
        pytest.skip(f"needs {words}")
    monkeypatch.setenv("CXX", words)
    for build in (compile_levels, compile_linear_algebra):
        outcome = build(tmp_path, levels=[level], extra_flags=["-Werror"])
        assert outcome.complete, outcome.sentence
