"""A supervisor over small processes that die on demand."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import Deaths, GaveUp, Limits, local_command, run_all

pytestmark = pytest.mark.processes

QUICK = Limits(short_lives=3, short=60.0, first_pause=0.01, longest_pause=0.05, grace=30.0)

# Appends its pid to a file, then does what the argument says.
CHILD = """
import os, signal, sys, time
file, deed = sys.argv[1:]
if deed == "obey":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if deed == "defy":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(file, "a") as lives:
    lives.write(f"{os.getpid()}\\n")
if deed.isdigit():
    sys.exit(int(deed))
if deed == "die once" and len(open(file).readlines()) > 1:
    sys.exit(0)
if deed == "die once":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""


def _program(file, deed):
    return local_command("child", [sys.executable, "-c", CHILD, str(file), deed])


def _run(file, deed, stop=None, limits=QUICK):
    """The exit status of a supervised child."""
    (status,) = run_all([_program(file, deed)], stop or StopRequest(), limits)
    return status


def _lives(file):
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def _wait(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.02)


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_pauses_double_until_a_life_was_long_enough():
    deaths = Deaths(Limits(short_lives=4, short=10.0, first_pause=1.0, longest_pause=3.0))
    assert [deaths.add(lived) for lived in (0.0, 1.0, 9.9)] == [1.0, 2.0, 3.0]
    assert deaths.add(10.0) == 1.0
    assert [deaths.add(lived) for lived in (0.0, 1.0, 9.9)] == [1.0, 2.0, 3.0]
    assert deaths.add(5.0) is None


@pytest.mark.parametrize(("status", "deed"), [(0, "0"), (2, "2"), (130, "130")])
def test_a_process_is_not_restarted_if_a_restart_cannot_help(tmp_path, status, deed):
    file = tmp_path / "lives"
    assert _run(file, deed) == status
    assert len(_lives(file)) == 1


def test_a_killed_process_is_started_again(tmp_path):
    file = tmp_path / "lives"
    assert _run(file, "die once") == 0
    assert len(_lives(file)) == 2


def test_it_gives_up_and_says_why(tmp_path):
    file = tmp_path / "lives"
    with pytest.raises(
        GaveUp, match=r"child died 3 times in a row .*; last it ended with exit status 7\."
    ):
        _run(file, "7")
    assert len(_lives(file)) == 3


@pytest.mark.parametrize(
    ("deed", "urgent", "status"), [("obey", False, 0), ("defy", True, ExitCode.INTERRUPTED)]
)
def test_asked_to_stop_it_stops_the_process(tmp_path, deed, urgent, status):
    file, stop, statuses = tmp_path / "lives", StopRequest(), []
    thread = threading.Thread(target=lambda: statuses.append(_run(file, deed, stop)))
    thread.start()
    _wait(lambda: _lives(file))
    stop.ask()
    if urgent:
        time.sleep(0.3)
        assert _is_running(_lives(file)[0])
        stop.ask()
    thread.join(60)
    assert statuses == [status]
    assert len(_lives(file)) == 1
    assert not _is_running(_lives(file)[0])


def test_after_the_grace_the_process_is_killed(tmp_path):
    file, stop = tmp_path / "lives", StopRequest()
    limits = Limits(grace=0.2)
    thread = threading.Thread(target=lambda: _run(file, "defy", stop, limits))
    thread.start()
    _wait(lambda: _lives(file))
    stop.ask()
    thread.join(60)
    assert not _is_running(_lives(file)[0])


def test_the_process_dies_with_its_supervisor(tmp_path):
    file = tmp_path / "lives"
    child = f"from kipper.launch.processes.process import die_with_supervisor as d; d()\n{CHILD}"
    program = f"""
        import sys
        from kipper.launch.processes.stopping import StopRequest
        from kipper.launch.processes.supervisor import local_command, run_all
        command = [sys.executable, "-c", {child!r}, {str(file)!r}, "sleep"]
        run_all([local_command("child", command)], StopRequest())
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    _wait(lambda: _lives(file))
    (pid,) = _lives(file)
    assert _is_running(pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _wait(lambda: not _is_running(pid))


def test_several_go_on_when_one_is_given_up(tmp_path):
    broken = _program(tmp_path / "broken", "7")
    whole = _program(tmp_path / "whole", "die once")
    with pytest.raises(GaveUp, match="exit status 7"):
        run_all([broken, whole], StopRequest(), QUICK)
    assert len(_lives(tmp_path / "whole")) == 2
