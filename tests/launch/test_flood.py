"""A coordinator that strangers flood: it goes on within bounds, and its bits are the same."""

import pathlib
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.thorough]
SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "flood.py"


def test_a_flood_changes_no_bit_and_takes_bounded_means():
    command = [sys.executable, str(SCRIPT), "--seconds=0.5", "--steps=150"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "|" in line][2:]
    assert len(rows) == 7
    for name, _, _, memory, files, threads in rows:
        before, most, _ = map(int, memory.split(", "))
        assert most - before < 100, name
        assert int(files) < 300, name
        assert int(threads) < 200, name
    assert "came without this run's certificate" in done.stdout
