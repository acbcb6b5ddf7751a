"""What is submitted to Slurm, what is refused before, and messages about Slurm's refusals."""

import contextlib
import json
import pathlib

import pytest
from slurm_stand_in import SlurmStandIn

from kipper.launch.cluster.meeting_point import Launch, MeetingPoint, read_launch
from kipper.launch.main import run
from kipper.server.workdir import Workdir

FLAGS = [
    "--cluster=slurm",
    "--dataset=digits",
    "--num_workers=4",
    "--python=/opt/kipper/bin/python",
]
OPTIONS = ["--sbatch=--partition=gpu -A lab", "--sbatch_worker=--nodelist=n1,n2"]

COORDINATOR = """\
#!/bin/sh
#SBATCH --job-name=kipper-coordinator
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:USR2@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=WORKDIR/slurm/coordinator-%j.log
exec /opt/kipper/bin/python -u -m kipper slurm_job distill --workdir=WORKDIR --num_workers=4 \
--dataset=digits
"""
WORKERS = """\
#!/bin/sh
#SBATCH --job-name=kipper-worker
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --array=0-3
#SBATCH --cpus-per-task=4
#SBATCH --dependency=after:HEAD
#SBATCH --gpus-per-node=1
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:USR2@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=WORKDIR/slurm/worker-%A_%a.log
exec /opt/kipper/bin/python -u -m kipper slurm_job distill --coordinator_job=HEAD --needs_gpu \
--workdir=WORKDIR --num_workers=4 --dataset=digits
"""


def _launch(workdir: pathlib.Path, *flags: str) -> int:
    return run(["launch", *FLAGS, f"--workdir={workdir}", *flags])


def _slurm(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, sbatch: str = "", queue: str = ""
) -> SlurmStandIn:
    """Jobs 7, 8, … are submitted, unless `sbatch` does otherwise; `queue` is what squeue says."""
    number = f"n=$(ls {folder}/*.job 2>/dev/null | wc -l); cat > {folder}/$n.job; echo $((n + 7))"
    return SlurmStandIn(
        folder, monkeypatch, sbatch=f"{sbatch}\n{number}", squeue=f"printf '{queue}'"
    )


def test_a_dry_run_prints_both_jobs_and_writes_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    workdir = tmp_path / "run"
    assert _launch(workdir, *OPTIONS, "--dry_run") == 0
    expected = (
        f"# sbatch --partition=gpu -A lab, of the coordinator:\n{COORDINATOR}\n"
        f"# sbatch --partition=gpu -A lab --nodelist=n1,n2, of the workers:\n{WORKERS}\n"
    )
    expected = expected.replace("WORKDIR", str(workdir)).replace("HEAD", "COORDINATOR")
    assert capsys.readouterr().out == expected
    assert not workdir.exists()


def test_both_jobs_are_submitted_and_begin_once_all_is_written_down(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = _slurm(tmp_path, monkeypatch)
    workdir = tmp_path / "run"
    assert _launch(workdir, *OPTIONS) == 0
    scripts = [(tmp_path / f"{n}.job").read_text() for n in (0, 1)]
    assert scripts == [
        script.replace("WORKDIR", str(workdir)).replace("HEAD", "7")
        for script in (COORDINATOR, WORKERS)
    ]
    assert slurm.calls == [
        "sbatch --parsable --hold --partition=gpu -A lab",
        "sbatch --parsable --partition=gpu -A lab --nodelist=n1,n2",
        "scontrol release 7",
    ]
    assert read_launch(workdir) == Launch("7", "8")
    said = capsys.readouterr().out
    assert "coordinator   job 7\nworkers       job 8\n" in said
    assert "scancel 7 8 " in said


def test_workers_may_have_no_gpus_and_their_threads_are_cpus(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _launch(tmp_path / "50%", "--gpus_per_worker=0", "--threads=16", "--dry_run") == 0
    _, workers = capsys.readouterr().out.split("of the workers")
    assert "gpus-per-node" not in workers
    assert "needs_gpu" not in workers
    assert "#SBATCH --cpus-per-task=16\n" in workers
    assert f"#SBATCH --output={tmp_path}/50%%/slurm/worker-%A_%a.log\n" in workers


@pytest.mark.parametrize(("refused", "cancelled"), [(0, []), (1, ["scancel 7"])])
def test_what_sbatch_refuses_is_one_sentence_and_leaves_no_job(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: int,
    cancelled: list[str],
) -> None:
    count = f"$(ls {tmp_path}/*.job 2>/dev/null | wc -l)"
    refusal = f"[ {count} = {refused} ] && echo sbatch: error: invalid partition: gpu >&2 && exit 1"
    slurm = _slurm(tmp_path, monkeypatch, refusal)
    assert _launch(tmp_path / "run") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "kipper: sbatch rejected the job: sbatch: error: invalid partition: gpu."
    assert [call for call in slurm.calls if not call.startswith("sbatch")] == cancelled
    assert read_launch(tmp_path / "run") is None


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--sbatch=partition=gpu,time=1:00", "--sbatch has 'partition=gpu,time=1:00'; it must be"),
        ("--sbatch_worker=a b", "--sbatch_worker has 'a b'"),
        ("--sbatch_coordinator=--comment='x", 'has "--comment=\'x": No closing quotation'),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], flag: str, sentence: str
) -> None:
    assert _launch(tmp_path / "run", flag) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_slurm_the_dry_run_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert _launch(tmp_path / "run") == 2
    assert "sbatch is not on the path" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("queue", "sentence"),
    [
        ("7 PENDING\\n8 RUNNING\\n8 PENDING\\n", "lives: job 7 is PENDING, job 8 is RUNNING. "),
        ("7 RUNNING\\n", "lives: job 7 is RUNNING. Slurm goes on with it by itself; to stop it, "),
    ],
)
def test_a_run_that_slurm_still_knows_is_left_alone(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    queue: str,
    sentence: str,
) -> None:
    slurm = _slurm(tmp_path, monkeypatch, queue=queue)
    (tmp_path / "run").mkdir()
    point = MeetingPoint(str(tmp_path / "run"), "7")
    point.open("8")
    point.arrive("node7:7070")
    assert _launch(tmp_path / "run") == 2
    assert sentence in capsys.readouterr().err
    assert point.address() == "node7:7070"
    assert not any(call.startswith("sbatch") for call in slurm.calls)


def test_workers_of_a_coordinator_that_is_gone_give_way_to_the_next_launch(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = _slurm(tmp_path, monkeypatch, queue="8 RUNNING\\n")
    (tmp_path / "run").mkdir()
    MeetingPoint(str(tmp_path / "run"), "5").open("8")
    assert _launch(tmp_path / "run") == 0
    assert "scancel 8" in slurm.calls
    assert read_launch(tmp_path / "run") == Launch("7", "8")


def test_a_queue_that_does_not_answer_is_no_permission(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    SlurmStandIn(tmp_path, monkeypatch, squeue="exit 1")
    (tmp_path / "run").mkdir()
    MeetingPoint(str(tmp_path / "run"), "7").open("8")
    assert _launch(tmp_path / "run") == 1
    assert "squeue does not say whether" in capsys.readouterr().err
    assert read_launch(tmp_path / "run") == Launch("7", "8")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (None, "Another kipper process (process "),
        ({"state": "running", "host": "node7"}, "was alive on host node7 less than two minutes"),
    ],
)
def test_the_workers_of_a_live_run_are_not_sent_home(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: dict[str, str] | None,
    sentence: str,
) -> None:
    slurm = _slurm(tmp_path, monkeypatch)
    workdir = Workdir(tmp_path / "run")
    workdir.make_logs()
    if status is not None:
        workdir.status.write_text(json.dumps(status))
    with workdir.locked() if status is None else contextlib.nullcontext():
        assert _launch(workdir.path) == 2
    assert sentence in capsys.readouterr().err
    assert slurm.calls == []
