"""The outcome of a local program, without running one."""

import json
import os
import signal
import sys
import threading

import pytest
from installation import LAUNCHPAD

from kipper.common.errors import Interrupted
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch import local_program
from kipper.launch.processes import supervisor
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import GaveUp, Limits
from kipper.server.measures import ACCURACY, Score
from kipper.server.workdir import Workdir

pytestmark = pytest.mark.processes


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.logs.mkdir()
    return workdir


def _end(workdir, **status):
    workdir.status.write_text(json.dumps(status))


class _Address:
    def resolve(self):
        return "localhost:1"


@pytest.mark.skipif(not LAUNCHPAD, reason="Launchpad is not installed here")
def test_a_worker_that_dies_again_and_again_ends_the_program_with_a_sentence(workdir, monkeypatch):
    from kipper.launch import nodes

    limits = Limits(short_lives=2, short=60.0, first_pause=0.01)
    monkeypatch.setattr(supervisor, "Limits", lambda: limits)
    monkeypatch.setattr(nodes, "enter_node", lambda settings, own_process: None)
    monkeypatch.setattr(nodes, "worker_command", lambda worker: [sys.executable, "-c", "1 / 0"])
    settings = RunSettings.of(DistillSettings, workdir=str(workdir.path), dataset="digits")
    with pytest.raises(GaveUp):
        nodes.run_worker_node(settings, 1, _Address(), own_process=True)

    _end(workdir, state="interrupted")  # so Launchpad ended the coordinator
    with pytest.raises(local_program.RunFailed, match="Worker worker-1 died 2 times in a row"):
        local_program.outcome(workdir, asked_to_stop=False)


@pytest.mark.skipif(not LAUNCHPAD, reason="Launchpad is not installed here")
def test_a_node_stops_when_asked_itself_and_at_once_with_the_program(monkeypatch):
    from kipper.launch import nodes

    over = threading.Event()
    monkeypatch.setattr(nodes.lp, "stop_event", lambda: over)
    stop = nodes.stop_with_program(StopRequest())
    assert not stop.is_asked()
    stop.ask()
    assert (stop.is_asked(), stop.is_urgent()) == (True, False)
    over.set()
    assert stop.is_urgent()


def test_the_message_of_the_coordinator_has_precedence(workdir):
    workdir.failure.write_text("Worker worker-1 died 12 times.")
    _end(workdir, state="failed", message="The images diverged.")
    with pytest.raises(local_program.RunFailed, match="diverged"):
        local_program.outcome(workdir, asked_to_stop=False)


def test_a_program_stopped_before_it_began_was_interrupted(workdir):
    with pytest.raises(Interrupted):
        local_program.outcome(workdir, asked_to_stop=True)
    with pytest.raises(local_program.RunFailed, match="A process of the run died"):
        local_program.outcome(workdir, asked_to_stop=False)


def test_a_finished_run_has_its_result(workdir):
    workdir.result.write_text(json.dumps({"test_accuracy": 0.5}))
    _end(workdir, state="finished")
    assert local_program.outcome(workdir, asked_to_stop=True).test == Score(ACCURACY, 0.5)


def test_no_coordinator_is_asked_that_has_not_begun_or_is_gone(workdir):
    settings = RunSettings.of(
        DistillSettings, workdir=str(workdir.path), dataset="digits", launch="local_mp"
    )
    assert not local_program.ask_coordinator(settings, workdir)
    _end(workdir, state="finished", pid=1)
    assert not local_program.ask_coordinator(settings, workdir)


def test_only_the_process_that_holds_the_lock_is_asked(workdir):
    settings = RunSettings.of(
        DistillSettings, workdir=str(workdir.path), dataset="digits", launch="local_mp"
    )
    asked = []
    before = signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    try:
        _end(workdir, state="running", pid=os.getpid())  # an id alone is not enough
        assert not local_program.ask_coordinator(settings, workdir)
        with workdir.locked():
            _end(workdir, state="running", pid=1)
            assert local_program.ask_coordinator(settings, workdir)
        assert asked == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ({"state": "failed", "message": "The images diverged."}, local_program.RunFailed),
        (
            {"state": "failed", "message": "The disk is full.", "may_recover": True},
            local_program.RunCutShort,
        ),
        ({"state": "running"}, local_program.RunCutShort),  # killed
    ],
)
def test_what_a_restart_may_help_is_told_from_what_it_cannot(workdir, status, error):
    _end(workdir, **status)
    with pytest.raises(local_program.RunFailed) as raised:
        local_program.outcome(workdir, asked_to_stop=False)
    assert raised.type is error
