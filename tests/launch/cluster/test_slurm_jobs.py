"""A Slurm job's worker stops when its coordinator moves; queries change nothing."""

import contextlib
import signal
import sys
import threading

import pytest

from kipper.common.errors import UserError
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.cluster import slurm_jobs
from kipper.launch.local_program import RunCutShort, RunFailed
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import GaveUp, Limits


class MeetingPoint:
    """A meeting point in memory that records the threads that read it."""

    def __init__(self):
        self.at, self.over, self.readers = "a:1", False, set()

    def address(self):
        self.readers.add(threading.get_ident())
        return self.at

    def is_over(self):
        self.readers.add(threading.get_ident())
        return self.over


@pytest.mark.parametrize("event", [{"at": "b:1"}, {"over": True}])
def test_a_worker_stops_when_the_coordinator_is_elsewhere_or_done(monkeypatch, event):
    monkeypatch.setattr(slurm_jobs, "_LOOK_SECONDS", 0.01)
    job, point = StopRequest(), MeetingPoint()
    with slurm_jobs.stopped_when_moved(job, "a:1", point) as stop:
        assert not stop.wait(0.2)
        vars(point).update(event)
        assert stop.wait(60.0)
        assert not stop.is_urgent()
    assert not job.is_asked()
    # Only the watcher reads the file: a query neither reads nor asks.
    assert threading.get_ident() not in point.readers


def test_a_coordinator_between_two_addresses_is_waited_for_and_the_job_is_followed(monkeypatch):
    monkeypatch.setattr(slurm_jobs, "_LOOK_SECONDS", 0.01)
    job, point = StopRequest(), MeetingPoint()
    with slurm_jobs.stopped_when_moved(job, "a:1", point) as stop:
        point.at = None
        assert not stop.wait(0.2)
        job.ask()
        assert stop.is_asked()


@pytest.fixture
def requeued(monkeypatch):
    """Requests to requeue the job, instead of submitit's own handler."""
    asked = []
    before = signal.signal(signal.SIGUSR2, lambda *_: asked.append(1))
    monkeypatch.setattr(slurm_jobs, "_ENDED_BY_SLURM_SECONDS", 0)
    yield asked
    signal.signal(signal.SIGUSR2, before)


def _settings(workdir):
    (workdir / "logs").mkdir()
    return RunSettings.of(DistillSettings, workdir=str(workdir), dataset="digits")


@pytest.mark.parametrize(
    ("status", "error", "again", "over"),
    [
        (0, None, 0, True),
        (1, RunFailed, 0, True),
        (2, UserError, 0, True),
        (75, RunCutShort, 1, True),  # submitit's handler does not return
        (137, RunCutShort, 0, True),
        (130, None, 0, False),
    ],
)
def test_a_coordinators_job_is_requeued_only_if_that_may_help(
    tmp_path, monkeypatch, requeued, status, error, again, over
):
    monkeypatch.setattr(slurm_jobs, "run_fleet", lambda *_: status)
    job = slurm_jobs.CoordinatorJob(_settings(tmp_path), "launch", sys.executable)
    with pytest.raises(error) if error else contextlib.nullcontext():
        job()
    assert len(requeued) == again
    assert slurm_jobs.MeetingPoint(str(tmp_path), "launch").is_over() == over


@pytest.mark.parametrize(
    ("status", "error", "again"),
    [(0, None, 0), (2, UserError, 0), (75, GaveUp, 1), (1, GaveUp, 0), (139, GaveUp, 0)],
)
def test_a_workers_job_is_requeued_only_if_that_may_help(
    tmp_path, monkeypatch, requeued, status, error, again
):
    monkeypatch.setattr(slurm_jobs, "run_fleet", lambda *_: status)
    monkeypatch.setattr(slurm_jobs, "LIMITS", Limits(short_lives=2, short=60.0, first_pause=0.01))
    slurm_jobs.MeetingPoint(str(tmp_path), "launch").arrive("localhost:1")
    job = slurm_jobs.WorkerJob(_settings(tmp_path), "launch", sys.executable, 0)
    with pytest.raises(error) if error else contextlib.nullcontext():
        job()
    assert len(requeued) == again
