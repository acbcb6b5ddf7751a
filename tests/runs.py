"""Runs as processes of their own, for tests that disturb them."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

# SIGINT as a terminal leaves it; tests run in the background of a script inherit "ignore".
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from kipper.launch.main import run
sys.exit(run(sys.argv[1:]))
"""
FLAGS = ["distill", "--dataset=digits", "--learn_labels", "--block_support=4", "--block_target=300"]
# More that must not depend on who computes it, and makes steps several times as long.
VARIED = ["--preprocess=zca", "--augment=flip,rotate", "--sample_architectures=fc2"]

_OWN_LINE = re.compile(r"kipper: |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (WARNING|ERROR) run=\w")


def command(workdir, *flags):
    return [sys.executable, "-c", RUN, *FLAGS, f"--workdir={workdir}", *flags]


def distill(workdir, *flags):
    finished = subprocess.run(command(workdir, *flags), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    # Nothing of what TensorFlow, XLA, gRPC and Reverb say when they start.
    assert all(_OWN_LINE.match(line) for line in finished.stderr.splitlines()), finished.stderr
    return (workdir / "distilled.npz").read_bytes()


def metrics(workdir):
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def nodes_of(workdir):
    """Processes of a program whose logs go to `workdir`."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            targets = [os.readlink(fd) for fd in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(target.startswith(str(workdir / "logs")) for target in targets):
            found.append(int(process.name))
    return found


def wait_for_step(workdir, step, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be disturbed"
        try:
            if json.loads((workdir / "status.json").read_text()).get("step", 0) >= step:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.02)
    pytest.fail(f"step {step} was not reached")
