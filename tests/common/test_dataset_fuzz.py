"""Damaged and hostile data sets end no process: see dataset_fuzz.py."""

import os
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).parents[1] / "dataset_fuzz.py"


@pytest.mark.parametrize("examples", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_no_file_ends_the_process_or_takes_its_memory(
    tmp_path: pathlib.Path, examples: int
) -> None:
    path = os.pathsep.join([str(PROGRAM.parent), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore", PROGRAM, str(examples), tmp_path],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
