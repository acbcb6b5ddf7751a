"""A second run in the workdir of a live one: refused before it touches anything there."""

import json
import signal
import subprocess
import time

import pytest
from installation import LAUNCHPAD
from runs import command, wait_for_step

pytestmark = pytest.mark.processes
LONG = ("--support_size=20", "--steps=100000", "--num_workers=1", "--dashboard=none")
WAYS = [("inprocess", "--overwrite"), *([("local_mp", "--seed=0")] if LAUNCHPAD else [])]


def _start(workdir, launch, *flags):
    return subprocess.Popen(
        command(workdir, *LONG, f"--launch={launch}", *flags),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.thorough
@pytest.mark.parametrize(("launch", "flag"), WAYS)
def test_it_is_refused_and_the_first_goes_on(tmp_path, launch, flag):
    with _start(tmp_path, launch) as first:
        try:
            wait_for_step(tmp_path, 1, first)
            begun = json.loads((tmp_path / "status.json").read_text())
            config = (tmp_path / "config.json").read_bytes()
            with _start(tmp_path, launch, flag) as second:
                _, said = second.communicate(timeout=60)
            assert second.returncode == 2
            assert said.startswith(f"kipper: Another kipper process (process {first.pid} on ")
            assert said.count("\n") == 1
            assert (tmp_path / "config.json").read_bytes() == config
            wait_for_step(tmp_path, begun["step"] + 2, first)
            assert json.loads((tmp_path / "status.json").read_text())["pid"] == begun["pid"]
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=60)
            assert first.returncode == 130
        finally:
            first.kill()


@pytest.mark.thorough
def test_of_two_that_start_at_once_one_runs(tmp_path):
    pair = [_start(tmp_path, "inprocess") for _ in range(2)]
    try:
        deadline = time.monotonic() + 60
        while all(each.poll() is None for each in pair) and time.monotonic() < deadline:
            time.sleep(0.05)
        loser, winner = sorted(pair, key=lambda each: each.poll() is None)
        assert loser.returncode == 2
        assert f"(process {winner.pid} on " in loser.communicate()[1]
        wait_for_step(tmp_path, 1, winner)
        winner.send_signal(signal.SIGINT)
        winner.communicate(timeout=60)
        assert winner.returncode == 130
    finally:
        for each in pair:
            each.kill()
