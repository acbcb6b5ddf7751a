"""The library of linear algebra under sanitizers: bad accesses, overflows, races of its threads."""

import os
import pathlib
import shlex
import subprocess

import pytest

from kipper.common.native.build import HERE

pytestmark = pytest.mark.slow  # compiles for half a minute; `make sanitize` runs it

PROGRAM = pathlib.Path(__file__).with_name("call_linalg.cpp")
COMPILER = shlex.split(os.environ.get("CXX") or "g++")
WATCHED = ("-O1", "-g1", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS")


@pytest.mark.parametrize("instructions", ["", "-march=x86-64-v3"])
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_every_function_ends_without_complaint(tmp_path, sanitizer, instructions):
    command = [*COMPILER, "-std=c++17", "-pthread", "-ffp-contract=off", "-Wall", "-Wextra"]
    command += [*WATCHED, f"-fsanitize={sanitizer}", f"-I{HERE}", *instructions.split()]
    program = tmp_path / "call_linalg"
    built = subprocess.run([*command, PROGRAM, "-o", program], capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"no sanitizers here: {built.stderr.strip().splitlines()[:1]}")
    called = subprocess.run([program], capture_output=True, text=True)
    assert called.returncode == 0, called.stderr
