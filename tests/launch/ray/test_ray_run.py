"""Runs of real processes whose workers are actors, on a Ray that each run starts."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from installation import needs_ray

from kipper.launch.processes.exit_codes import ExitCode

pytestmark = [pytest.mark.processes, needs_ray]

_RUN = ("--dataset=digits", "--target_batch_size=40", "--dashboard=none", "--num_workers=2")
_ON_RAY = ("--launch=ray", "--threads=1")


def _command(workdir, *flags):
    return [sys.executable, "-m", "kipper", "distill", f"--workdir={workdir}", *_RUN, *flags]


def _bits(workdir):
    with np.load(workdir / "distilled.npz") as arrays:
        return {name: arrays[name].tobytes() for name in ("images", "labels")}


def _scores(workdir):
    return set((workdir / "validation.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A run of 150 steps in one process."""
    workdir = tmp_path_factory.mktemp("runs") / "here"
    subprocess.run(_command(workdir, "--steps=150"), check=True, timeout=300)
    return workdir


@pytest.fixture
def begin():
    """Begins runs on Ray; those that a test leaves are killed after it."""
    begun = []

    def begin(workdir, *flags):
        """A run that has made some steps, and the processes that belong to it."""
        process = subprocess.Popen(
            _command(workdir, *_ON_RAY, *flags),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        checkpoints = pathlib.Path(workdir, "checkpoints")
        while len(list(checkpoints.glob("step-*"))) < 2:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        return process, psutil.Process(process.pid).children(recursive=True)

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def _left_of(processes):
    """The processes that run after two minutes; Ray's agents of a killed command need one or more.

    One that has ended, and that its parent has not reaped, does not run.
    """
    for _ in range(600):
        left = [each for each in processes if _runs(each)]
        if not left:
            break
        time.sleep(0.2)
    return left


def _addresses_of(processes):
    """Where they listen: whoever reaches Ray's ports can run programs."""
    found = set()
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            listening = [one for one in each.net_connections("inet") if one.status == "LISTEN"]
            found |= {one.laddr.ip for one in listening}
    assert found
    return found


def _runs(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_actors_compute_the_bits_and_scores_of_one_process(here, tmp_path):
    done = subprocess.run(
        _command(tmp_path, *_ON_RAY, "--steps=150"), capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert _bits(tmp_path) == _bits(here)
    assert _scores(tmp_path) <= _scores(here)  # the evaluator takes the newest
    assert {path.name for path in (tmp_path / "logs").glob("*-?.log")} == {
        "worker-0.log",
        "worker-1.log",
        "evaluator-0.log",
    }


def test_an_actor_that_is_killed_is_replaced_and_changes_no_bit(begin, here, tmp_path):
    process, others = begin(tmp_path, "--steps=150")
    actors = [each for each in others if "WorkerActor" in each.name()]
    assert len(actors) >= 2
    assert _addresses_of(others) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    actors[0].kill()
    assert process.wait(timeout=300) == 0, process.stderr.read()
    assert "another is made" in (tmp_path / "logs/run.log").read_text()
    assert _bits(tmp_path) == _bits(here)


@pytest.mark.thorough
def test_a_killed_command_leaves_no_process_and_the_run_resumes(begin, here, tmp_path):
    process, others = begin(tmp_path, "--steps=150")
    assert len(others) > 3
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _left_of(others) == []
    subprocess.run(_command(tmp_path, *_ON_RAY, "--steps=150"), check=True, timeout=300)
    assert _bits(tmp_path) == _bits(here)


def test_ctrl_c_stops_after_the_step_and_leaves_no_process(begin, tmp_path):
    process, others = begin(tmp_path, "--steps=100000")
    for each in (process, *others):  # as a terminal does, to all at once
        each.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == ExitCode.INTERRUPTED
    assert "the same command resumes" in process.stderr.read()
    assert _left_of(others) == []
