"""The scripts and errors of sbatch."""

import contextlib
import importlib.util
import json
import pathlib
import stat

import pytest

from kipper.launch.cluster.meeting_point import MeetingPoint
from kipper.launch.main import run
from kipper.server.workdir import Workdir

FLAGS = [
    "--cluster=slurm",
    "--dataset=digits",
    "--num_workers=4",
    "--python=/opt/kipper/bin/python",
]

COORDINATOR = """\
#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --exclusive
#SBATCH --job-name=kipper-coordinator
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=WORKDIR/slurm/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --time=24:00:00
#SBATCH --wckey=submitit

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output WORKDIR/slurm/%j_%t_log.out \
/opt/kipper/bin/python -u -m submitit.core._submit WORKDIR/slurm
"""
WORKERS = (
    COORDINATOR.replace("kipper-coordinator", "kipper-worker")
    .replace("--account=lab\n", "--account=lab\n#SBATCH --array=0-3%4\n")
    .replace("--exclusive\n", "--exclusive\n#SBATCH --gpus-per-node=1\n")
    .replace("%j", "%A_%a")
)
OPTIONS = "--sbatch=partition=gpu,account=lab,exclusive,time=24:00:00"


def _launch(workdir, *flags):
    return run(["launch", *FLAGS, f"--workdir={workdir}", *flags])


def test_a_dry_run_prints_both_jobs_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nonexistent")
    workdir = tmp_path / "run"
    assert _launch(workdir, OPTIONS, "--dry_run") == 0
    expected = f"# sbatch of the coordinator\n{COORDINATOR}\n# sbatch of the workers\n{WORKERS}\n"
    assert capsys.readouterr().out == expected.replace("WORKDIR", str(workdir))
    assert not workdir.exists()


def test_sbatch_is_handed_what_the_dry_run_prints(tmp_path, monkeypatch, capsys):
    _stand_in(
        tmp_path, monkeypatch, f'cat "$1" >> {tmp_path}/submitted; echo Submitted batch job 7'
    )
    assert _launch(tmp_path / "run", OPTIONS) == 0
    submitted = (tmp_path / "submitted").read_text()
    assert submitted == (COORDINATOR + WORKERS).replace("WORKDIR", str(tmp_path / "run"))
    said = capsys.readouterr().out
    assert "coordinator   job 7\nworkers       job 7\n" in said
    assert "scancel 7 7 " in said


def test_a_worker_can_be_a_job_without_gpus(tmp_path, capsys):
    assert _launch(tmp_path, "--num_workers=1", "--gpus_per_worker=0", "--dry_run") == 0
    said = capsys.readouterr().out
    assert "--array" not in said
    assert "gpus" not in said
    assert said.count("#SBATCH --time=1440\n") == 2


def test_what_sbatch_refuses_is_one_sentence(tmp_path, monkeypatch, capsys):
    _stand_in(tmp_path, monkeypatch, "echo sbatch: error: invalid partition: gpu >&2; exit 1")
    assert _launch(tmp_path / "run", OPTIONS) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "kipper: sbatch rejected the job: sbatch: error: invalid partition: gpu."


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--sbatch=partition=", "--sbatch has 'partition='; it must be a list like"),
        ("--sbatch=a b", "--sbatch has 'a b'"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(tmp_path, capsys, flag, sentence):
    assert _launch(tmp_path / "run", flag) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_slurm_the_dry_run_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert _launch(tmp_path / "run") == 2
    assert "sbatch is not on the path" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_submitit_it_is_named(tmp_path, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "submitit" else find_spec(name, *rest),
    )
    assert _launch(tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "needs submitit" in error
    assert "pip install 'kipper[cluster]'" in error


def _stand_in(folder: pathlib.Path, monkeypatch, sbatch):
    """Puts a fake sbatch and srun on the path."""
    for name, script in (("sbatch", sbatch), ("srun", "exit 1")):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (None, "Another kipper process (process "),
        ({"state": "running", "host": "node7"}, "was alive on host node7 less than two minutes"),
    ],
)
def test_the_workers_of_a_live_run_are_not_sent_home(
    tmp_path, monkeypatch, capsys, status, sentence
):
    _stand_in(tmp_path, monkeypatch, f"touch {tmp_path}/called")
    workdir = Workdir(tmp_path / "run")
    workdir.make_logs()
    point = MeetingPoint(str(workdir.path), "first")
    point.arrive("node7:7070")
    if status is not None:
        workdir.status.write_text(json.dumps(status))
    with workdir.locked() if status is None else contextlib.nullcontext():
        assert _launch(workdir.path) == 2
    assert sentence in capsys.readouterr().err
    assert point.address() == "node7:7070"
    assert not (tmp_path / "called").exists()
