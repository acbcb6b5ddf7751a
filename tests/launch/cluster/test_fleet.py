"""The processes of a run: which are restarted, which are given up, and how all end."""

import dataclasses
import pathlib
import sys
import threading

import pytest

from kipper.launch.cluster import fleet
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import after_failure, after_kill

pytestmark = pytest.mark.processes

QUICK = dataclasses.replace(
    fleet.LIMITS, short_lives=3, short=600.0, first_pause=0.01, longest_pause=0.01
)

# Appends a line for each life, and then executes the code for its first life or for later ones.
PROGRAM = """
import os, pathlib, signal, sys, time
lives = pathlib.Path(sys.argv[1])
with open(lives, "a") as file:
    file.write("life\\n")
time.sleep(float(sys.argv[2]))
first = len(lives.read_text().splitlines()) == 1
exec(sys.argv[3] if first else sys.argv[4])
"""
KILL_YOURSELF = "os.kill(os.getpid(), signal.SIGKILL)"
WAIT = "time.sleep(120)"


def _member(folder, name, first, later="sys.exit(0)", seconds=0.0):
    program = [sys.executable, "-c", PROGRAM, str(folder / f"{name}.lives")]
    command = [sys.executable, "-m", "kipper.launch.cluster.tether", *program]
    return fleet.TetheredProcess(
        name, (*command, str(seconds), first, later), folder / f"{name}.log"
    )


def _lives(folder, name):
    return len((folder / f"{name}.lives").read_text().splitlines())


def _run(members, stop=None):
    said = []
    return fleet.run_fleet(members, said.append, stop or StopRequest(), QUICK), said


@pytest.mark.parametrize(
    ("leads", "status", "life", "again"),
    [
        (True, 0, 1, False),
        (True, 1, 1, False),
        (True, 2, 1, False),
        (True, 130, 1, False),
        (True, 75, 1, True),
        (True, 137, 1, True),
        (True, 255, 1, True),
        (False, 0, 1, False),
        (False, 2, 1, False),
        (False, 130, 1, False),
        (False, 1, 1, True),
        (False, 75, 1, True),
        (False, 137, 4, True),
        (False, 255, 1, True),
    ],
)
def test_who_may_live_again(leads, status, life, again):
    assert (after_kill if leads else after_failure)(status, life) == again


def test_the_leaders_end_is_the_end_of_all(tmp_path):
    members = [_member(tmp_path, "leader", "sys.exit(0)", seconds=0.5)]
    members += [_member(tmp_path, f"follower-{i}", WAIT) for i in range(2)]
    status, said = _run(members)
    assert (status, said) == (0, [])
    assert _lives(tmp_path, "follower-1") == 1


def test_a_host_that_was_lost_may_come_back_and_one_never_reached_is_a_mistake(tmp_path):
    # Also in its first life: ssh's status is 255 when it loses a host.
    status, _ = _run([_member(tmp_path, "lost", "sys.exit(255)", "sys.exit(255)")])
    assert status == 75
    assert _lives(tmp_path, "lost") == QUICK.short_lives
    refused = (sys.executable, "-c", "raise SystemExit(255)")
    never_there = fleet.TetheredProcess("unknown", refused, tmp_path / "unknown.log")
    assert _run([never_there]) == (255, [])


@pytest.mark.parametrize("status", [1, 2])
def test_the_leaders_own_failure_is_not_repeated(tmp_path, status):
    assert _run([_member(tmp_path, "leader", f"sys.exit({status})")]) == (status, [])


def test_a_killed_leader_and_a_failed_follower_live_again(tmp_path):
    leader = _member(tmp_path, "leader", KILL_YOURSELF, "time.sleep(1); sys.exit(0)")
    follower = _member(tmp_path, "follower", "sys.exit('kipper: Out of luck.')", WAIT)
    status, said = _run([leader, follower])
    assert status == 0
    assert (_lives(tmp_path, "leader"), _lives(tmp_path, "follower")) == (2, 2)
    assert any("leader was killed by SIGKILL after " in sentence for sentence in said)
    assert any("follower failed (Out of luck; " in sentence for sentence in said)


def test_a_process_that_dies_too_often_is_given_up(tmp_path):
    leader = _member(tmp_path, "leader", "time.sleep(120)")
    follower = _member(tmp_path, "follower", "sys.exit(1)", "sys.exit(1)")
    stop, said = StopRequest(), []

    def say(sentence):
        said.append(sentence)
        if "given up" in sentence:
            stop.ask_at_once()

    assert fleet.run_fleet([leader, follower], say, stop, QUICK) == ExitCode.INTERRUPTED
    assert _lives(tmp_path, "follower") == QUICK.short_lives
    assert [("restart" in sentence, "given up" in sentence) for sentence in said] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_a_leader_that_dies_too_often_ends_the_run(tmp_path):
    status, _ = _run([_member(tmp_path, "leader", KILL_YOURSELF, KILL_YOURSELF)])
    assert status == 137
    assert _lives(tmp_path, "leader") == QUICK.short_lives


def test_asked_to_stop_the_leader_finishes_while_the_others_stay(tmp_path):
    ready = tmp_path / "ready"
    finish = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130)); "
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(120)"
    )
    stop = StopRequest()
    members = [_member(tmp_path, "leader", finish), _member(tmp_path, "follower", WAIT)]
    asked = threading.Thread(target=_ask_once_started, args=(ready, stop))
    asked.start()
    status, said = _run(members, stop)
    asked.join()
    assert (status, said) == (130, [])
    assert _lives(tmp_path, "leader") == 1


def _ask_once_started(ready, stop):
    while not ready.exists():
        stop.wait(0.05)
    stop.ask()


def test_the_leaders_output_is_shown_and_all_logs_are_kept(tmp_path, capfd):
    leader = _member(tmp_path, "leader", "print('step 1'); print('oops', file=sys.stderr)")
    follower = _member(tmp_path, "follower", "print('hello'); sys.exit(0)")
    (tmp_path / "leader.log").write_text("earlier\n")
    leader = leader.at_the_end_of_its_log()
    assert leader.last_words() == "no output"
    _run([leader, follower])
    assert capfd.readouterr().out == "step 1\n"
    log = (tmp_path / "leader.log").read_text().split()
    assert log[0] == "earlier"
    assert {"1", "oops", "step"} <= set(log[1:])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no output"),
        ("a\n\nb: no such host\n\n", "b: no such host"),
        ("kipper: Port 7 is taken.\nE1122 server stopped\n", "Port 7 is taken"),
    ],
)
def test_last_words(tmp_path, text, words):
    (tmp_path / "log").write_text(text)
    assert fleet.TetheredProcess("a", (), tmp_path / "log").last_words() == words
    missing = fleet.TetheredProcess("a", (), pathlib.Path("/nonexistent"))
    assert missing.last_words() == "no output"


def test_a_host_that_is_lost_is_told_in_ssh_s_words_and_not_in_those_of_an_earlier_life(tmp_path):
    log = tmp_path / "worker.log"
    log.write_text("kipper: Port 7 is taken.\nssh: connection timed out\n")
    program = fleet.TetheredProcess("worker", (), log, host="west").program(leads=False)
    assert program.reason(255) == "could not be reached (ssh: connection timed out)"
