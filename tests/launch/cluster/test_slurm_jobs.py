"""A Slurm job's worker stops when its coordinator moves; queries change nothing."""

import threading

import pytest

from kipper.launch.processes.stopping import StopRequest

slurm_jobs = pytest.importorskip("kipper.launch.cluster.slurm_jobs")


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
