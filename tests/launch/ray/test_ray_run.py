"""Runs of real processes on a Ray of their own."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed here"),
]

_RUN = ("--dataset=digits", "--steps=3", "--target_batch_size=40", "--dashboard=none")


def _distill(workdir, *flags):
    command = [sys.executable, "-m", "kipper", "distill", f"--workdir={workdir}", *_RUN, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def _bits(workdir):
    with np.load(workdir / "distilled.npz") as arrays:
        return {name: arrays[name].tobytes() for name in ("images", "labels")}


def test_actors_compute_the_bits_of_one_process(tmp_path):
    here = _distill(tmp_path / "here", "--launch=inprocess")
    assert here.returncode == 0, here.stderr
    there = _distill(tmp_path / "there", "--launch=ray")
    assert (there.returncode, there.stderr) == (0, "")
    assert _bits(tmp_path / "there") == _bits(tmp_path / "here")
