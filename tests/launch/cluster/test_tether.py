"""A tethered process ends when the other side of its tether ends in any way."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from kipper.launch.cluster import tether

pytestmark = pytest.mark.processes

# Writes its process id; exits in good order at SIGTERM unless it is deaf.
CHILD = """
import os, pathlib, signal, sys, time
def leave(*_):
    pathlib.Path(sys.argv[1]).with_suffix(".left").write_text("left")
    sys.exit(7)
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[2] == "deaf" else leave)
pathlib.Path(sys.argv[1] + ".new").write_text(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(120)
"""


def _tethered(pid_file, mood, grace="120"):
    program = (
        "import sys; from kipper.launch.cluster.tether import run; "
        f"sys.exit(run(sys.argv[1:], grace_seconds={grace}))"
    )
    command = [sys.executable, "-c", program, sys.executable, "-c", CHILD, str(pid_file), mood]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def _say(process, word):
    """Writes a word to the tether; None closes its input."""
    if word is None:
        process.stdin.close()
    else:
        os.write(process.stdin.fileno(), word)


def _wait_for(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _child_of(pid_file):
    _wait_for(pid_file.exists, "the child did not start")
    return int(pid_file.read_text())


def _is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_status_of_the_command_is_passed_on():
    for code, status in (("raise SystemExit(5)", 5), ("import os; os.kill(os.getpid(), 9)", 137)):
        command = [sys.executable, "-m", "kipper.launch.cluster.tether", sys.executable, "-c", code]
        # Standard input stays open until the command has ended.
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            assert process.wait(60) == status


def test_a_missing_program_is_one_sentence():
    command = [sys.executable, "-m", "kipper.launch.cluster.tether", "/nonexistent/python"]
    ended = subprocess.run(command, input="", capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "kipper: /nonexistent/python does not exist.\n"


@pytest.mark.parametrize("word", [tether.STOP, None])
def test_asked_or_let_go_the_process_may_leave_in_good_order(tmp_path, word):
    with _tethered(tmp_path / "pid", "polite") as process:
        child = _child_of(tmp_path / "pid")
        _say(process, word)
        assert process.wait(60) == 7
    assert (tmp_path / "pid.left").exists()
    assert not _is_alive(child)


@pytest.mark.parametrize("word", [tether.KILL, None])
def test_a_deaf_process_is_killed(tmp_path, word):
    with _tethered(tmp_path / "pid", "deaf", grace="0.5") as process:
        child = _child_of(tmp_path / "pid")
        _say(process, word)
        assert process.wait(60) == 137
    assert not _is_alive(child)


def test_a_tether_that_is_killed_takes_the_process_along(tmp_path):
    with _tethered(tmp_path / "pid", "deaf") as process:
        child = _child_of(tmp_path / "pid")
        process.kill()
        process.wait()
    _wait_for(lambda: not _is_alive(child), "an orphan is left")


def test_a_warning_by_slurm_is_not_for_the_process(tmp_path):
    with _tethered(tmp_path / "pid", "polite") as process:
        child = _child_of(tmp_path / "pid")
        for pid in (process.pid, child):
            os.kill(pid, signal.SIGUSR2)
        _say(process, tether.STOP)
        assert process.wait(60) == 7


def test_descendants_of_the_process_end_with_it(tmp_path):
    code = (
        "import subprocess, sys; "
        f"subprocess.Popen([sys.executable, '-c', {CHILD!r}, {str(tmp_path / 'pid')!r}, 'deaf'])"
    )
    command = [sys.executable, "-m", "kipper.launch.cluster.tether", sys.executable, "-c"]
    wait = (
        f"; import os, time\nwhile not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(.02)"
    )
    with subprocess.Popen([*command, code + wait], stdin=subprocess.PIPE) as process:
        assert process.wait(60) == 0
    grandchild = _child_of(tmp_path / "pid")
    _wait_for(lambda: not _is_alive(grandchild), "an orphan is left")
