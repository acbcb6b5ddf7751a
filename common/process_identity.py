"""Identifies the process that had a process id when the id was written down.

Ids are used again: after the process has ended, after a restart of the machine, and in another
container. So the start time is kept beside the id, with what it is counted in.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket


@dataclasses.dataclass(frozen=True)
class ProcessIdentity:
    """A process of some machine.

    Attributes:
        host: name of its machine.
        pid: its id there.
        started: when it began, in clock ticks since the start of the machine.
        boot: that start of the machine, and the namespace of process ids.
    """

    host: str
    pid: int
    started: int
    boot: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_of_this_machine(self) -> bool:
        """Whether `lives` can be known here: same machine, start and namespace of ids."""
        return self.boot != "" and self.boot == _boot()

    def lives(self) -> bool:
        """Whether this very process is alive; False on other machines, where it is unknown."""
        return self.is_of_this_machine and _started(self.pid) == self.started

    def send(self, number: signal.Signals) -> bool:
        """Sends a signal if this very process is alive; returns whether it did."""
        if not self.is_of_this_machine:
            return False
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(self.pid)  # from here on, no other process can get the id
            try:
                if self.lives():
                    signal.pidfd_send_signal(handle, number)
                    return True
            finally:
                os.close(handle)
        return False


def this_process() -> ProcessIdentity:
    """The calling process."""
    return ProcessIdentity(socket.gethostname(), os.getpid(), _started(os.getpid()) or 0, _boot())


def _started(pid: int) -> int | None:
    """When a process of this machine began; None if there is none with this id."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return None
    # "pid (name) state …", where the name may hold spaces and parentheses; see proc(5), field 22.
    after_name = text.rpartition(")")[2].split()
    return None if after_name[0] in "ZX" else int(after_name[19])


def _boot() -> str:
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
