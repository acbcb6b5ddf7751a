"""Slurm's jobs: what is requeued, and which workers stay while their coordinator does not."""

import errno
import os
import pathlib
import signal
from collections.abc import Callable

import pytest
from slurm_stand_in import SlurmStandIn

from kipper.common.errors import UserError
from kipper.common.settings import DistillSettings, RunSettings, SlurmJobSettings
from kipper.launch.cluster import slurm_jobs
from kipper.launch.cluster.meeting_point import MeetingPoint, read_launch
from kipper.launch.processes.stopping import StopRequest
from kipper.server.status import StatusWriter, read_status
from kipper.server.workdir import Workdir

Work = Callable[..., int]


@pytest.fixture
def workdir(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder of a launch whose coordinator is job 7, and whose workers are job 8."""
    monkeypatch.setattr(slurm_jobs, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(slurm_jobs, "_ASK_SECONDS", 0.0)
    (tmp_path / "run").mkdir()
    MeetingPoint(str(tmp_path / "run"), "7").open("8")
    return tmp_path / "run"


def _run(workdir: pathlib.Path, coordinator_job: str | None) -> int:
    """Runs a job in this process; returns its exit status."""
    settings = RunSettings.of(DistillSettings, workdir=str(workdir), dataset="digits")
    with pytest.raises(SystemExit) as ending:
        slurm_jobs.run_job(SlurmJobSettings(coordinator_job=coordinator_job), settings)
    assert isinstance(ending.value.code, int)
    return ending.value.code


def _as_coordinator(monkeypatch: pytest.MonkeyPatch, work: Work) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    monkeypatch.setattr(slurm_jobs, "_run", work)


def _as_worker(monkeypatch: pytest.MonkeyPatch, work: Work) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "8")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    monkeypatch.setattr(slurm_jobs, "_run", work)


def _until_stopped(
    name: str, arguments: tuple[str, ...], rule: Callable[[int, int], bool], stop: StopRequest
) -> int:
    assert stop.wait(60.0)
    return 130


REQUEUED = ["scontrol requeue 7"]
WORKER_REQUEUED = ["scontrol requeue 8_1", "scontrol update JobId=8_1 Dependency=after:7"]


@pytest.mark.parametrize(
    ("status", "calls", "is_over"),
    [
        (0, [], True),
        (1, [], True),
        (2, [], True),
        (75, REQUEUED, False),
        (137, [], True),
        (130, [], False),
    ],
)
def test_a_coordinators_job_is_requeued_only_if_that_may_help(
    tmp_path: pathlib.Path,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    calls: list[str],
    is_over: bool,
) -> None:
    slurm, addresses = SlurmStandIn(tmp_path, monkeypatch), []

    def work(*_: object) -> int:
        addresses.append(MeetingPoint(str(workdir), "7").address())
        return status

    _as_coordinator(monkeypatch, work)
    assert _run(workdir, None) == status
    assert addresses[0].startswith("node1:")
    assert slurm.calls == calls
    launch = read_launch(workdir)
    assert launch is not None
    assert launch.is_over == is_over


@pytest.mark.parametrize(
    ("squeue", "workers", "ends"),
    [
        ("echo 7 RUNNING", 0, True),
        ("echo 8 PENDING", 0, False),
        ("exit 1", 0, False),
        ("echo 7 RUNNING", 1, False),  # one that was started by hand
    ],
)
def test_a_coordinator_whose_workers_have_all_ended_ends(
    tmp_path: pathlib.Path,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    squeue: str,
    workers: int,
    ends: bool,
) -> None:
    SlurmStandIn(tmp_path, monkeypatch, squeue=squeue)
    monkeypatch.setattr(slurm_jobs, "SILENCE_SECONDS", 0.0)

    def work(name: str, arguments: object, rule: object, stop: StopRequest) -> int:
        StatusWriter(workdir / "status.json").update(now=True, state="running", workers=workers)
        return 130 if stop.wait_until_urgent(60.0 if ends else 0.3) else 0

    _as_coordinator(monkeypatch, work)
    assert _run(workdir, None) == (1 if ends else 0)
    status = read_status(workdir / "status.json")
    assert status.state == ("failed" if ends else "running")
    if ends:
        assert status.message is not None
        assert "Slurm's job 8 of workers has ended; slurm/worker-8_*.log" in status.message
    launch = read_launch(workdir)
    assert launch is not None
    assert launch.is_over


def test_a_full_disk_requeues_the_job(
    tmp_path: pathlib.Path,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    slurm = SlurmStandIn(tmp_path, monkeypatch)

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    _as_coordinator(monkeypatch, lambda *_: pytest.fail("the coordinator started"))
    monkeypatch.setattr(pathlib.Path, "mkdir", full)  # of the folder of logs
    assert _run(workdir, None) == 75
    assert slurm.calls == REQUEUED
    assert "cannot be written (No space left on device)" in capfd.readouterr().err


def test_the_lock_comes_before_the_meeting_point(
    workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _as_coordinator(monkeypatch, lambda *_: pytest.fail("the coordinator started"))
    settings = RunSettings.of(DistillSettings, workdir=str(workdir), dataset="digits")
    with Workdir(workdir).locked(), pytest.raises(UserError, match="Another kipper process"):
        slurm_jobs.run_job(SlurmJobSettings(), settings)
    assert MeetingPoint(str(workdir), "7").address() is None


def test_a_job_that_is_warned_ends_its_work_and_is_requeued(
    tmp_path: pathlib.Path, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slurm ends the processes of a job that is requeued, scontrol among them.
    slurm = SlurmStandIn(tmp_path, monkeypatch, scontrol="kill -TERM $$")

    def work(*rest: object) -> int:
        os.kill(os.getpid(), signal.SIGUSR2)
        return _until_stopped(*rest)

    _as_coordinator(monkeypatch, work)
    assert _run(workdir, None) == 130
    assert slurm.calls == REQUEUED


@pytest.mark.parametrize("warned", [False, True])
def test_a_job_that_slurm_is_ending_does_not_undo_that(
    tmp_path: pathlib.Path, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch, warned: bool
) -> None:
    slurm = SlurmStandIn(tmp_path, monkeypatch)

    def work(*_: object) -> int:
        if warned:
            os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        return 130  # Slurm's signal reaches the coordinator as well

    _as_coordinator(monkeypatch, work)
    assert _run(workdir, None) == 130
    assert slurm.calls == []


@pytest.mark.parametrize(
    ("status", "calls"), [(0, []), (2, []), (75, WORKER_REQUEUED), (1, []), (139, [])]
)
def test_a_workers_job_is_requeued_only_if_that_may_help(
    tmp_path: pathlib.Path,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    calls: list[str],
) -> None:
    slurm, given = SlurmStandIn(tmp_path, monkeypatch), []

    def work(name: str, arguments: tuple[str, ...], *_: object) -> int:
        given.append(arguments)
        return status

    MeetingPoint(str(workdir), "7").arrive("node1:7070")
    _as_worker(monkeypatch, work)
    assert _run(workdir, "7") == status
    assert slurm.calls == calls
    assert {"--coordinator=node1:7070", "--name=worker-1", "--threads=6"} <= set(given[0])


def test_a_worker_follows_its_coordinator_and_ends_with_the_run(
    workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point, seen = MeetingPoint(str(workdir), "7"), []

    def work(name: str, arguments: tuple[str, ...], rule: object, stop: StopRequest) -> int:
        seen.append(arguments[1])
        if len(seen) == 1:
            assert not stop.wait(0.1)
            point.arrive("node2:7071")
        else:
            point.close()
        assert stop.wait(60.0)
        assert not stop.is_urgent()
        return 130

    point.arrive("node1:7070")
    _as_worker(monkeypatch, work)
    assert _run(workdir, "7") == 0
    assert seen == ["--coordinator=node1:7070", "--coordinator=node2:7071"]


def test_workers_of_a_coordinator_that_was_cancelled_end(
    tmp_path: pathlib.Path,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    slurm = SlurmStandIn(tmp_path, monkeypatch, squeue="echo 8 RUNNING")
    monkeypatch.setattr(slurm_jobs, "SILENCE_SECONDS", 0.05)
    MeetingPoint(str(workdir), "7").arrive("node1:7070")
    _as_worker(monkeypatch, _until_stopped)
    assert _run(workdir, "7") == 0
    assert set(slurm.calls) == {"squeue --noheader --jobs=7,7 --format=%F %T"}
    assert "The coordinator's job 7 has ended, and so does this one." in capfd.readouterr().err


@pytest.mark.parametrize("squeue", ["echo 7 PENDING", "exit 1"])
@pytest.mark.parametrize("address", ["", "node1:7070"])
def test_a_worker_gives_its_gpu_back_while_the_coordinator_waits_for_long(
    tmp_path: pathlib.Path,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    squeue: str,
    address: str,
) -> None:
    slurm = SlurmStandIn(tmp_path, monkeypatch, squeue=squeue)
    monkeypatch.setattr(slurm_jobs, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(slurm_jobs, "_PATIENCE_SECONDS", 0.1)
    MeetingPoint(str(workdir), "7").arrive(address)
    _as_worker(monkeypatch, _until_stopped)
    assert _run(workdir, "7") == 75
    assert slurm.calls[-2:] == WORKER_REQUEUED


def test_a_worker_stays_with_a_coordinator_that_runs_or_writes(
    tmp_path: pathlib.Path, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = SlurmStandIn(tmp_path, monkeypatch, squeue="echo 7 RUNNING")
    monkeypatch.setattr(slurm_jobs, "_PATIENCE_SECONDS", 0.0)
    point, asked = MeetingPoint(str(workdir), "7"), []

    def work(name: str, arguments: object, rule: object, stop: StopRequest) -> int:
        (workdir / "status.json").touch()
        assert not stop.wait(0.2)
        asked.append(slurm.calls)  # not while the coordinator writes
        monkeypatch.setattr(slurm_jobs, "SILENCE_SECONDS", -1.0)
        assert not stop.wait(0.2)
        asked.append(slurm.calls)
        return 0

    point.arrive("node1:7070")
    _as_worker(monkeypatch, work)
    assert _run(workdir, "7") == 0
    assert asked[0] == []
    assert set(asked[1]) == {"squeue --noheader --jobs=7,7 --format=%F %T"}
