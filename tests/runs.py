"""Runs in processes of their own, for tests that disturb them."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from kipper.common.sealed import parse_object

# SIGINT is handled as in a terminal: a background job of a script would ignore it.
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from kipper.launch.main import run
sys.exit(run(sys.argv[1:]))
"""
FLAGS = ["distill", "--dataset=digits", "--learn_labels", "--block_support=4", "--block_target=300"]
# Results must not depend on the launch with these either, and they make steps longer.
VARIED = [
    *("--preprocess=zca", "--augment=flip,rotate", "--sample_architectures=fc2"),
    *("--loss=cross_entropy", "--average=0.9"),
]

_OWN_LINE = re.compile(r"kipper: |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (WARNING|ERROR) run=\w")


def command(workdir, *flags):
    return [sys.executable, "-c", RUN, *FLAGS, f"--workdir={workdir}", *flags]


def distill(workdir, *flags):
    finished = subprocess.run(command(workdir, *flags), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    # No message of TensorFlow, XLA, gRPC or Reverb.
    assert all(_OWN_LINE.match(line) for line in finished.stderr.splitlines()), finished.stderr
    return (workdir / "distilled.npz").read_bytes()


def metrics(workdir):
    records = [parse_object(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def nodes_of(workdir):
    """Ids of processes that have a log of `workdir` open."""
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
