"""Three launches, any number of workers, any crash: one result, bit for bit."""

import json
import os
import signal
import subprocess
import time

import pytest
from event_curves import curves_agree_with_records
from installation import needs_launchpad
from runs import VARIED, command, distill, metrics, nodes_of, wait_for_step

from kipper.launch.processes.exit_codes import ExitCode

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """An undisturbed run of 60 steps against one worker."""
    workdir = tmp_path_factory.mktemp("runs") / "quiet"
    distill(workdir, *VARIED, "--steps=60", "--num_workers=1")
    return workdir


@pytest.mark.parametrize(
    ("launch", "num_workers"),
    [
        pytest.param("inprocess", 3, marks=pytest.mark.thorough),
        pytest.param("local_mt", 2, marks=[needs_launchpad, pytest.mark.thorough]),
        pytest.param("local_mp", 2, marks=needs_launchpad),
    ],
)
def test_every_launch_gives_the_same_bits(quiet, tmp_path, launch, num_workers):
    distilled = distill(
        tmp_path, *VARIED, "--steps=60", f"--launch={launch}", f"--num_workers={num_workers}"
    )
    assert distilled == (quiet / "distilled.npz").read_bytes()
    assert metrics(tmp_path) == metrics(quiet)
    if launch == "local_mp":
        assert sorted(p.name for p in (tmp_path / "logs").iterdir() if p.is_dir()) == [
            "coordinator",
            "evaluator",
            "snapshots",
            "worker",
        ]
    last = json.loads((tmp_path / "validation.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 60
    assert nodes_of(tmp_path) == []


@pytest.mark.thorough
def test_kill_at_several_moments_and_resume_ends_in_the_same_bits(quiet, tmp_path):
    for step in (0, 7, 29):
        process = subprocess.Popen(
            command(tmp_path, *VARIED, "--steps=60"), stdout=subprocess.DEVNULL
        )
        wait_for_step(tmp_path, step, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    # The rest of a checkpoint that was being written is skipped.
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    state = newest / "state.npz"
    state.write_bytes(state.read_bytes()[:-100])
    assert distill(tmp_path, *VARIED, "--steps=60") == (quiet / "distilled.npz").read_bytes()
    assert metrics(tmp_path) == metrics(quiet)
    assert len(list((tmp_path / "tensorboard").iterdir())) > 1
    assert curves_agree_with_records(tmp_path)


@pytest.mark.thorough
@needs_launchpad
def test_a_killed_coordinator_process_is_reported_and_the_run_resumes(quiet, tmp_path):
    process = subprocess.Popen(
        command(tmp_path, *VARIED, "--steps=2000", "--launch=local_mp"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_step(tmp_path, 20, process)
    os.kill(json.loads((tmp_path / "status.json").read_text())["pid"], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == ExitCode.TEMPORARY
    assert "A process of the run died" in error
    assert "Traceback" not in error
    assert nodes_of(tmp_path) == []
    assert distill(tmp_path, *VARIED, "--steps=60") == (quiet / "distilled.npz").read_bytes()


@pytest.mark.thorough
@pytest.mark.parametrize("launch", ["inprocess", pytest.param("local_mp", marks=needs_launchpad)])
def test_ctrl_c_ends_every_process_and_keeps_the_step(tmp_path, launch):
    process = subprocess.Popen(
        command(tmp_path, *VARIED, "--steps=20000", f"--launch={launch}"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_step(tmp_path, 9, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "the same command resumes" in error
    assert "Traceback" not in error
    assert nodes_of(tmp_path) == []
    steps = sorted(int(path.name[5:]) for path in (tmp_path / "checkpoints").glob("step-*"))
    assert steps[-1] >= 9


@pytest.mark.thorough
@needs_launchpad
def test_a_killed_launcher_leaves_no_orphan(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, *VARIED, "--steps=20000", "--launch=local_mp"), stdout=subprocess.DEVNULL
    )
    wait_for_step(tmp_path, 2, process)
    assert len(nodes_of(tmp_path)) >= 5
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while nodes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert nodes_of(tmp_path) == []
