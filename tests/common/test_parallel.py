"""Tasks shared out among threads in C++: each runs once, and exceptions reach the caller."""

import os
import pathlib
import shlex
import shutil
import subprocess

import pytest

from kipper.common.native.build import HERE

PROGRAM = pathlib.Path(__file__).with_name("call_parallel.cpp")
COMPILER = shlex.split(os.environ.get("CXX") or "g++")


@pytest.mark.skipif(shutil.which(COMPILER[0]) is None, reason="no C++ compiler")
def test_tasks_run_once_and_what_they_throw_reaches_the_caller(tmp_path):
    program = tmp_path / "call_parallel"
    flags = ("-std=c++17", "-pthread", "-Wall", "-Wextra", "-Werror", f"-I{HERE}")
    subprocess.run([*COMPILER, *flags, PROGRAM, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
