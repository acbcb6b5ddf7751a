"""A local program that attacks itself and loses its coordinator has an undisturbed run's bits.

All at once: worker processes killed and frozen, questions and answers lost and damaged, one worker
that computes wrong numbers, and the coordinator killed again and again.
"""

import json
import os
import random
import re
import signal
import subprocess
import time

import pytest
from installation import needs_launchpad
from runs import command, distill, metrics, nodes_of

from kipper.common.chaos import Chaos
from kipper.launch.link.chaos import attack_this_process

pytestmark = pytest.mark.processes

_STOPPED = re.compile(r"Chaos (kills|freezes) this worker")


def _run_until_killed(workdir, flags, killed_after):
    """One life of the program; kills its coordinator after so long, if it still runs.

    Returns whether the run is finished, and what its logs held.
    """
    (workdir / "status.json").unlink(missing_ok=True)  # the life before's
    process = subprocess.Popen(
        command(workdir, *flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    _wait_for_first_block(workdir, process)
    killed = False
    try:
        _, error = process.communicate(timeout=killed_after)
    except subprocess.TimeoutExpired:
        pid = json.loads((workdir / "status.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        killed = True
        _, error = process.communicate(timeout=120)
    assert "Traceback" not in error
    assert nodes_of(workdir) == []
    if not killed:
        assert process.returncode == 0, error
    logs = {
        path.relative_to(workdir / "logs").as_posix(): path.read_text(errors="replace")
        for path in (workdir / "logs").rglob("*")
        if path.is_file() and path.suffix != ".jsonl" and not path.name.endswith(".jsonl.1")
    }
    return not killed, logs


def _wait_for_first_block(workdir, process):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            status = json.loads((workdir / "status.json").read_text())
        except (OSError, ValueError):
            status = {}
        if status.get("blocks", 0) > 0:
            return
        time.sleep(0.05)
    assert process.poll() is not None, "no block was computed"


def _attack(tmp_path, steps, chaos, lives, seconds_of_a_life, faults_wanted):
    quiet = tmp_path / "quiet"
    distill(quiet, f"--steps={steps}", "--num_workers=1")
    workdir = tmp_path / "attacked"
    draws = random.Random(5)
    flags = [f"--steps={steps}", "--launch=local_mp", "--num_workers=4", "--verify_fraction=1"]
    finished, life, faults, liars = False, 0, 0, set()
    while not finished:
        seed = 7 + 4 * life  # the same worker lies in each life
        after = draws.uniform(*seconds_of_a_life) if life < lives else 3600
        finished, logs = _run_until_killed(workdir, [*flags, f"--chaos={chaos},seed={seed}"], after)
        life += 1
        faults += 1  # the coordinator's death
        faults += _check_every_death_is_told(logs)
        liars |= set(
            re.findall(
                r"worker=(\S+) The worker is lost: its answer to a block differs", _all(logs)
            )
        )
    assert liars == {"worker-3"}  # 7 % 4
    assert faults >= faults_wanted
    assert (workdir / "distilled.npz").read_bytes() == (quiet / "distilled.npz").read_bytes()
    assert metrics(workdir) == metrics(quiet)
    return faults


def _check_every_death_is_told(logs):
    """Checks that supervisors log each killed worker; returns the number of faults."""
    attacks = 0
    for name, text in logs.items():
        if not name.startswith("worker/"):
            continue
        kills = text.count("Chaos kills this worker")
        # The last death may have come while the program was being stopped.
        assert text.count("was killed by SIGKILL after") >= kills - 1, name
        attacks += len(_STOPPED.findall(text))
    return attacks


def _all(logs):
    return "\n".join(logs.values())


@pytest.mark.thorough
@needs_launchpad
def test_an_attacked_run_ends_in_the_same_bits(tmp_path):
    # It lies so often because on busy cores it is killed before it has answered much.
    chaos = "kill:15s,freeze:15s,drop:0.03,delay:5ms,corrupt:0.02,lie:0.5"
    _attack(tmp_path, steps=12, chaos=chaos, lives=1, seconds_of_a_life=(2, 8), faults_wanted=2)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@needs_launchpad
def test_two_hundred_faults_change_nothing(tmp_path):
    chaos = "kill:20s,freeze:20s,drop:0.02,delay:5ms,corrupt:0.02,lie:0.02"
    faults = _attack(
        tmp_path, steps=1500, chaos=chaos, lives=12, seconds_of_a_life=(10, 60), faults_wanted=200
    )
    print(f"{faults} processes killed or frozen")


def test_only_named_targets_are_attacked(monkeypatch):
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a process was attacked"))
    attack_this_process(Chaos())
