"""The processes of a run on many hosts: the coordinator leads, the others follow.

Every process is tethered (`tether.py`), so that none is left running. The leader is restarted only
if something killed it: it then resumes from its checkpoint. If its host cannot be reached at all,
the run ends.
"""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO

from kipper.launch.cluster import tether
from kipper.launch.processes.exit_codes import ExitCode, describe, was_killed
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import (
    Child,
    Limits,
    Program,
    after_failure,
    after_kill,
    supervise,
)

# A host that restarts is away for some minutes. The coordinator may take its time to finish its
# step.
LIMITS = Limits(
    short_lives=10,
    short=60.0,
    first_pause=1.0,
    longest_pause=60.0,
    grace=float("inf"),
    followers_grace=20.0,
)
_READER_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class TetheredProcess:
    """A process of a run.

    Attributes:
        name: unique in the run.
        command: the tether and its arguments, with ssh in front where it runs elsewhere.
        log: file to which its output is added.
        host: where it runs, for messages; empty for this host.
        log_begins: where in the log this launch begins.
    """

    name: str
    command: tuple[str, ...]
    log: pathlib.Path
    host: str = ""
    log_begins: int = 0

    def at_the_end_of_its_log(self) -> "TetheredProcess":
        """The same process; `last_words` counts what it adds to its log from now on."""
        size = self.log.stat().st_size if self.log.exists() else 0
        return dataclasses.replace(self, log_begins=size)

    def program(self, leads: bool) -> Program:
        """The process to supervise; the leader's standard output is shown here as well."""
        return Program(
            f"{self.name} on {self.host}" if self.host else self.name,
            lambda: _Tethered(self.command, self.log, shown=leads),
            self._leader_may_live_again if leads else after_failure,
            self._reason,
        )

    def last_words(self) -> str:
        """The last line of its output without a full stop, preferably kipper's own sentence."""
        lines = self._lines()
        own = [line.removeprefix("kipper: ") for line in lines if line.startswith("kipper: ")]
        return (own or lines or ["no output"])[-1].strip().rstrip(".")

    def _lines(self) -> list[str]:
        text = self._output().decode(errors="replace")
        found = (line for line in text.splitlines() if not line.startswith(tether.ARRIVED))
        return [line for line in found if line.strip()]

    def _output(self) -> bytes:
        try:
            return self.log.read_bytes()[self.log_begins :]
        except OSError:
            return b""

    def _has_arrived(self) -> bool:
        return tether.ARRIVED.encode() in self._output()

    def _leader_may_live_again(self, status: int, life: int) -> bool:
        """The rule for a leader; if ssh has never reached the host, the user is mistaken."""
        if status == ExitCode.SSH and not self._has_arrived():
            return False
        return after_kill(status, life)

    def _reason(self, status: int) -> str:
        if status == ExitCode.SSH:
            lost = "was lost" if self._has_arrived() else "could not be reached"
            # ssh's message comes last; kipper's own sentence would be that of an earlier life.
            said = (self._lines() or ["no output"])[-1].strip().rstrip(".")
            return f"{lost} ({said})"
        if was_killed(status):
            return describe(status)
        return f"failed ({self.last_words()}; {self.log} has more)"


def run_fleet(
    processes: Sequence[TetheredProcess],
    say: Callable[[str], None],
    stop: StopRequest,
    limits: Limits = LIMITS,
) -> int:
    """Runs processes until the first, which leads, has ended; returns its exit status.

    Args:
        processes: the leader first.
        say: called with a sentence for each death.
        stop: asked once, the leader may finish while the others continue; urgent, all are killed.
        limits: the limits of restarts and of stopping.
    """
    leader, *followers = (process.program(leads=i == 0) for i, process in enumerate(processes))
    (ending,) = supervise([leader], stop, say, limits, followers)
    if ending.given_up is not None and ending.status == ExitCode.SSH:
        return ExitCode.TEMPORARY  # the host was reached before, and may come back
    return ending.status


class _Tethered(Child):
    """A tether on this machine, or the ssh to one; it reads `tether.STOP` and `KILL`."""

    def __init__(self, command: Sequence[str], log: pathlib.Path, shown: bool):
        with open(log, "ab") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if shown else file,
                stderr=file,
                start_new_session=True,  # Ctrl-C at a terminal is for the supervisor alone
            )
        super().__init__(process)
        self._reader: threading.Thread | None = None
        if process.stdout is not None:
            self._reader = threading.Thread(
                target=_show_and_log, args=(process.stdout, log), daemon=True
            )
            self._reader.start()

    def terminate(self) -> None:
        self._write(tether.STOP)

    def kill(self) -> None:
        self._write(tether.KILL)

    def close(self) -> None:
        """Also cuts the tether, which then ends the process at its other end."""
        super().close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._reader is not None:
            self._reader.join(_READER_SECONDS)

    def _write(self, word: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # the process is just ending
            os.write(self._process.stdin.fileno(), word)


def _show_and_log(output: IO[bytes], log: pathlib.Path) -> None:
    with output, open(log, "ab") as file:
        for line in output:
            file.write(line)
            file.flush()
            sys.stdout.write(line.decode(errors="replace"))
            sys.stdout.flush()
