"""The simulation of benchmarks/scheduler.py: its clock is virtual, so what it finds is exact."""

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[3] / "benchmarks" / "scheduler.py"


def _simulated(*flags):
    command = [sys.executable, str(SCRIPT), "--json", "--steps=2", *flags]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize(("workers", "least"), [(8, 0.9), (64, 0.84), (512, 0.6)])
def test_stragglers_and_deaths_cost_no_more_than_was_measured(workers, least):
    result = _simulated(f"--workers={workers}")
    assert result["blocks"] == 2 * 2420
    assert least < result["utilisation"] <= 1
    assert 0 <= result["wasted_work"] < 0.03


def test_workers_known_to_be_slow_are_passed_over():
    result = _simulated("--workers=64", "--slow_workers")
    assert result["utilisation"] > 0.93


def test_bytes_do_not_grow_with_workers_times_support():
    few, many = (_simulated(f"--workers={n}")["bytes_per_step"] for n in (8, 512))
    assert many < 4 * few  # 64 times the workers


def test_evaluation_fills_what_the_gradient_leaves_idle():
    alone = _simulated("--workers=512")["utilisation_absolute"]
    filled = _simulated("--workers=512", "--evaluation=10000")["utilisation_absolute"]
    assert filled > alone + 0.1
