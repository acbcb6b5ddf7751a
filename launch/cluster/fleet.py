"""Keeps the processes of one run going, wherever they are: the first leads, the others follow.

The rules:

1. The leader's end is the end of the run, unless something killed it: then it is started again,
   and goes on from its checkpoint. A host that cannot be reached at all is an end too.
2. A follower that died is started again after a pause that grows; one that ended with status 0, or
   with one that a restart cannot better (`supervisor.py`), is not.
3. One that dies too often is given up, and that is said.
4. Asked to stop, the leader may finish what it is at, and the others go on until it has; asked
   twice, all are killed.
5. Nothing is left running: every process is tethered (`tether.py`).
"""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from kipper.launch.cluster import tether
from kipper.launch.processes.exit_codes import (
    FINAL,
    ExitCode,
    describe,
    shell_status,
    was_killed,
)
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import Deaths, Limits

# A host that restarts is away for some minutes.
LIMITS = Limits(short_lives=10, short=60.0, first_pause=1.0, longest_pause=60.0, grace=20.0)
_POLL_SECONDS = 0.1
_KILL_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Member:
    """A process to be kept going.

    Attributes:
        name: unique in the fleet.
        command: what to start here, ssh included; its standard input is the tether's.
        log: file for its output.
        place: where it runs, for messages; empty for here.
    """

    name: str
    command: tuple[str, ...]
    log: pathlib.Path
    place: str = ""


def may_live_again(leads: bool, status: int, life: int) -> bool:
    """Whether a process that ended is to be started again, unless it died too often.

    Args:
        leads: whether it is the leader.
        status: its exit status, as a shell says it.
        life: which of its lives that was, from 1.
    """
    if not leads:
        return status not in FINAL
    return was_killed(status) and not (life == 1 and status == ExitCode.SSH)


class Fleet:
    """The processes of a run.

    Args:
        members: the leader first.
        say: told of deaths and restarts, a sentence each.
        limits: of restarts; the grace is between the leader's end and the killing of the others.
    """

    def __init__(
        self, members: Sequence[Member], say: Callable[[str], None], limits: Limits = LIMITS
    ):
        self._slots = [_Slot(member, limits, leads=i == 0) for i, member in enumerate(members)]
        self._say = say
        self._limits = limits

    def run(self, stop: StopRequest) -> int:
        """Runs the fleet until the leader ends; returns the leader's exit status."""
        leader, told = self._slots[0], False
        try:
            while leader.final_status is None and not stop.is_urgent():
                for slot in self._slots:
                    self._look_after(slot, stop.is_asked())
                if stop.is_asked() and not told:
                    leader.tell(tether.STOP)
                    told = True
                time.sleep(_POLL_SECONDS)
        finally:
            self._end_all(stop)
        return ExitCode.INTERRUPTED if leader.final_status is None else leader.final_status

    def last_words(self) -> str:
        """The last line of the leader's log."""
        return last_line(self._slots[0].member.log)

    def _look_after(self, slot: "_Slot", is_stopping: bool) -> None:
        if slot.final_status is not None:
            return
        if not slot.is_begun:
            if is_stopping:
                slot.final_status = ExitCode.INTERRUPTED
            elif time.monotonic() >= slot.start_at:
                slot.start()
        elif slot.is_over():
            slot.finish(is_stopping)
            if slot.leads and slot.final_status is not None:
                return
            if slot.final_status is None:
                self._say(f"{slot.description} {slot.reason()}; it is started again.")
            elif slot.final_status not in (ExitCode.DONE, ExitCode.INTERRUPTED) and not is_stopping:
                self._say(f"{slot.description} {slot.reason()} and is given up.")

    def _end_all(self, stop: StopRequest) -> None:
        """Ends what lives: asked to, then killed by its tether, then cut off here."""
        deadline = time.monotonic() + self._limits.grace
        self._tell_until_over(tether.STOP, lambda: time.monotonic() > deadline or stop.is_urgent())
        deadline = time.monotonic() + _KILL_SECONDS
        self._tell_until_over(tether.KILL, lambda: time.monotonic() > deadline)
        for slot in self._slots:
            slot.cut()

    def _tell_until_over(self, word: bytes, is_enough: Callable[[], bool]) -> None:
        for slot in self._slots:
            slot.tell(word)
        while not is_enough() and not all(slot.is_over() for slot in self._slots):
            time.sleep(_POLL_SECONDS)


class _Slot:
    """One member, alive or between two lives."""

    def __init__(self, member: Member, limits: Limits, leads: bool):
        self.member = member
        self.leads = leads
        self.start_at = 0.0
        self.final_status: int | None = None  # once it is not to live again
        self._status: int = ExitCode.DONE  # of its last life
        self._lives = 0
        self._born = 0.0
        self._deaths = Deaths(limits)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    @property
    def description(self) -> str:
        place = self.member.place
        return f"{self.member.name} on {place}" if place else self.member.name

    @property
    def is_begun(self) -> bool:
        """Whether there is a process, alive or just over."""
        return self._process is not None

    def start(self) -> None:
        """Starts the process; the leader's standard output is shown here as well."""
        if self._lives == 0:
            self.member.log.write_bytes(b"")
        with open(self.member.log, "ab") as log:
            self._process = subprocess.Popen(
                self.member.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if self.leads else log,
                stderr=log,
                start_new_session=True,  # Ctrl-C at a terminal is for this process alone
            )
        self._born = time.monotonic()
        self._lives += 1
        if self._process.stdout is not None:
            self._reader = threading.Thread(
                target=_show_and_log, args=(self._process.stdout, self.member.log), daemon=True
            )
            self._reader.start()

    def finish(self, is_stopping: bool) -> None:
        """Notes how the process ended, and whether and when there will be another."""
        assert self._process is not None
        status = self._process.wait()
        self._status = shell_status(status)
        self._close()
        pause = None
        if not is_stopping and may_live_again(self.leads, self._status, self._lives):
            pause = self._deaths.add(time.monotonic() - self._born)
        if pause is None:
            self.final_status = self._status
        else:
            self.start_at = time.monotonic() + pause

    def reason(self) -> str:
        """Why it ended, for a message."""
        if self._status == ExitCode.SSH:
            return f"cannot be reached ({last_line(self.member.log)})"
        if was_killed(self._status):
            return f"was {describe(self._status)}"
        return f"failed ({last_line(self.member.log)}; {self.member.log} says more)"

    def tell(self, word: bytes) -> None:
        """Writes a word to the tether of a process that lives."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it is just ending
                os.write(self._process.stdin.fileno(), word)

    def is_over(self) -> bool:
        """Whether no process is alive."""
        return self._process is None or self._process.poll() is not None

    def cut(self) -> None:
        """Kills what still runs here; at its other end the tether feels it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        if self._reader is not None:
            self._reader.join(_KILL_SECONDS)
        self._process = self._reader = None


def last_line(log: pathlib.Path) -> str:
    """What a log says last, without the full stop: kipper's own sentence, or any line."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    own = [line.removeprefix("kipper: ") for line in lines if line.startswith("kipper: ")]
    return (own or lines or ["no output"])[-1].strip().rstrip(".")


def _show_and_log(output: IO[bytes], log: pathlib.Path) -> None:
    with output, open(log, "ab") as file:
        for line in output:
            file.write(line)
            file.flush()
            sys.stdout.write(line.decode(errors="replace"))
            sys.stdout.flush()
