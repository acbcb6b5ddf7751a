"""Keeps processes running: restarts those that die, until they die too often.

The rules:

1. When the leaders have ended, all end.
2. A process that ends is restarted if its rule says so, after a pause that doubles with each short
   life in a row.
3. A process whose last `Limits.short_lives` lives were all short is given up: a restart does not
   help.
4. Asked to stop, the leaders may finish for `Limits.grace` while the others continue. Then the
   others are asked, and killed after `Limits.followers_grace`. An urgent request kills all.
5. Nothing outlives the supervisor: see `process.die_with_supervisor` and `cluster/tether.py`.
"""

import dataclasses
import os
import subprocess
import time
from collections.abc import Callable, Sequence

from absl import logging

from kipper.common.errors import KipperError
from kipper.launch.processes import exit_codes
from kipper.launch.processes.exit_codes import ExitCode, shell_status
from kipper.launch.processes.process import SUPERVISOR_VARIABLE
from kipper.launch.processes.stopping import StopRequest

_POLL_SECONDS = 0.1
# Time from SIGKILL until a process that a tether should have killed is cut off.
_KILL_SECONDS = 5.0


class GaveUp(KipperError):
    """A process died too often."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """When to restart and when to give up; all times in seconds.

    Attributes:
        short_lives: this many short lives in a row are too many.
        short: a life shorter than this is short; a longer one has done some work.
        first_pause: before the restart after one death.
        longest_pause: between a death and a restart.
        grace: from the request to stop until the leaders are killed.
        followers_grace: from the leaders' end until the other processes are killed.
    """

    short_lives: int = 12
    short: float = 8.0
    first_pause: float = 0.5
    longest_pause: float = 5.0
    grace: float = 75.0
    followers_grace: float = 0.0


class Deaths:
    """Counts short lives in a row, and computes the pause that follows."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._short_lives = 0

    def add(self, lived: float) -> float | None:
        """The pause before a restart after a life of `lived` seconds; None: no more restarts."""
        self._short_lives = self._short_lives + 1 if lived < self._limits.short else 0
        if self._short_lives >= self._limits.short_lives:
            return None
        pause = self._limits.first_pause * 2.0 ** max(0, self._short_lives - 1)
        return min(pause, self._limits.longest_pause)


def after_failure(status: int, life: int) -> bool:  # noqa: ARG001
    """A rule: restart after every exit status that a restart may improve."""
    return status not in exit_codes.FINAL


def after_kill(status: int, life: int) -> bool:  # noqa: ARG001
    """A rule: restart a coordinator that was killed, or failed for a reason that may pass."""
    return exit_codes.was_killed(status) or status == ExitCode.TEMPORARY


class Child:
    """A running process of this machine."""

    def __init__(self, process: "subprocess.Popen[bytes]"):
        self._process = process
        self.poll = process.poll

    def terminate(self) -> None:
        """Asks the process to end."""
        self._process.terminate()

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()

    def close(self) -> None:
        """Kills the process here if it still runs, and releases its resources."""
        self._process.kill()
        self._process.wait()


@dataclasses.dataclass(frozen=True)
class Program:
    """A process to keep running.

    Attributes:
        name: for messages.
        start: starts a process.
        should_restart: from a shell's exit status and the number of the life that ended, from 1.
        reason: from an exit status, why the process ended, to follow its name.
    """

    name: str
    start: Callable[[], Child]
    should_restart: Callable[[int, int], bool] = after_failure
    reason: Callable[[int], str] = exit_codes.describe


def local_command(name: str, command: Sequence[str]) -> Program:
    """A process of this machine that writes its output where this process does.

    It dies with the thread that supervises it, if it calls `process.die_with_supervisor`.
    """

    def start() -> Child:
        process = subprocess.Popen(
            command,
            env={**os.environ, SUPERVISOR_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            # Ctrl-C at a terminal is for the supervisor, which asks its processes to stop.
            start_new_session=True,
        )
        logging.info("%s runs as process %d.", name, process.pid)
        return Child(process)

    return Program(name, start)


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a program ended for good: its exit status, and a sentence if it was given up."""

    status: int
    given_up: str | None = None


def supervise(
    leaders: Sequence[Program],
    stop: StopRequest,
    say: Callable[[str], None],
    limits: Limits,
    followers: Sequence[Program] = (),
) -> list[Ending]:
    """Runs programs, and restarts them, until the leaders have ended; returns how those did.

    Args:
        leaders: programs; when they have ended, all end.
        stop: asks the leaders to finish; all processes are killed when it is urgent.
        say: called with a sentence for each death.
        limits: the limits of restarts and of stopping.
        followers: programs that run as long as the leaders.
    """
    leading = [_Supervised(program, limits, say, leads=True) for program in leaders]
    everyone = leading + [_Supervised(program, limits, say, leads=False) for program in followers]
    kill_at: float | None = None
    try:
        while any(leader.ending is None for leader in leading) and not stop.is_urgent():
            for each in everyone:
                each.look_after(stop.is_asked())
            if kill_at is None and stop.is_asked():
                kill_at = time.monotonic() + limits.grace
                for child in _running(leading):
                    child.terminate()
            if kill_at is not None and time.monotonic() >= kill_at:
                break
            time.sleep(_POLL_SECONDS)
    finally:
        _end(everyone, limits, stop)
    return [leader.ending or Ending(ExitCode.INTERRUPTED) for leader in leading]


def run_all(
    programs: Sequence[Program], stop: StopRequest, limits: Limits | None = None
) -> list[int]:
    """Supervises programs, in this thread, until all have ended; returns their exit statuses.

    Raises:
        GaveUp: after the end of all, why the first one was given up.
    """
    endings = supervise(programs, stop, _warn, limits or Limits())
    for ending in endings:
        if ending.given_up is not None:
            raise GaveUp(ending.given_up)
    return [ending.status for ending in endings]


def _warn(sentence: str) -> None:
    logging.warning("%s", sentence)


class _Supervised:
    """A program, running or between two lives.

    Attributes:
        child: its process, alive or just ended.
        ending: how it ended, once it is not restarted any more.
    """

    def __init__(self, program: Program, limits: Limits, say: Callable[[str], None], leads: bool):
        self.child: Child | None = None
        self.ending: Ending | None = None
        self._program = program
        self._limits = limits
        self._say = say
        self._leads = leads
        self._deaths = Deaths(limits)
        self._lives = 0
        self._born = self._start_at = 0.0

    def look_after(self, is_stopping: bool) -> None:
        """Starts the program when it is due; notes the end of its process."""
        if self.ending is not None:
            return
        if self.child is None:
            if is_stopping:
                self.ending = Ending(ExitCode.INTERRUPTED)
            elif time.monotonic() >= self._start_at:
                self.child, self._born = self._program.start(), time.monotonic()
                self._lives += 1
        elif (returncode := self.child.poll()) is not None:
            self.child.close()
            self.child = None
            self._note_end(shell_status(returncode), is_stopping)

    def _note_end(self, status: int, is_stopping: bool) -> None:
        name, limits = self._program.name, self._limits
        reason, lived = self._program.reason(status), time.monotonic() - self._born
        if is_stopping or not self._program.should_restart(status, self._lives):
            self.ending = Ending(status)
            logging.info("%s %s.", name, exit_codes.describe(status))
            is_failure = status not in (ExitCode.DONE, ExitCode.INTERRUPTED)
            if is_failure and not (is_stopping or self._leads):  # a leader's end is the result
                self._say(f"{name} {reason} and is not restarted.")
        elif (pause := self._deaths.add(lived)) is None:
            sentence = (
                f"{name} died {limits.short_lives} times in a row within {limits.short:g} s of "
                f"its start and is given up; last it {reason}."
            )
            self.ending = Ending(status, sentence)
            self._say(sentence)
        else:
            self._start_at = time.monotonic() + pause
            # The number of the restart keeps the log from dropping the line as a repetition.
            self._say(
                f"{name} {reason} after {lived:.1f} s; restart {self._lives} follows in "
                f"{pause:.1f} s."
            )


def _running(everyone: Sequence[_Supervised]) -> list[Child]:
    children = [each.child for each in everyone if each.child is not None]
    return [child for child in children if child.poll() is None]


def _end(everyone: Sequence[_Supervised], limits: Limits, stop: StopRequest) -> None:
    """Asks all running processes to end, then kills them, then cuts them off."""
    deadline = time.monotonic() + limits.followers_grace
    for child in _running(everyone):
        child.terminate()
    while _running(everyone) and time.monotonic() < deadline and not stop.is_urgent():
        time.sleep(_POLL_SECONDS)
    deadline = time.monotonic() + _KILL_SECONDS
    for child in _running(everyone):
        child.kill()
    while _running(everyone) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    for each in everyone:
        if each.child is not None:
            each.child.close()
