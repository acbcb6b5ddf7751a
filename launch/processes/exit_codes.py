"""Exit statuses of kipper's processes, and which of them a restart cannot improve."""

import enum
import signal

# A shell reports a process that a signal killed as this plus the signal's number.
_KILLED = 128


class ExitCode(enum.IntEnum):
    """How a process ended."""

    DONE = 0
    "The command succeeded."
    FAILED = 1
    "The run failed, and kipper said why; or Python failed."
    UNUSABLE = 2
    "The command line, or something that it names, cannot be used; or the coordinator refuses it."
    TEMPORARY = 75
    "Something outside failed that may recover; it is EX_TEMPFAIL of sysexits.h."
    INTERRUPTED = 130
    "The process was asked to stop; the same command resumes the run."
    SSH = 255
    "ssh could not reach the host, or lost the connection."


# A process that ends with one of these is not restarted; docs/cluster.md has the whole table.
FINAL = frozenset({ExitCode.DONE, ExitCode.UNUSABLE, ExitCode.INTERRUPTED})


def shell_status(returncode: int) -> int:
    """The exit status that a shell reports for a return code of `subprocess`."""
    return returncode if returncode >= 0 else _KILLED - returncode


def was_killed(status: int) -> bool:
    """Whether a shell's exit status means that a signal or a lost connection ended the process."""
    return status > _KILLED and status != ExitCode.INTERRUPTED


def describe(status: int) -> str:
    """How a process with a shell's exit status ended, to follow its name."""
    try:
        return f"was killed by {signal.Signals(status - _KILLED).name}"
    except ValueError:
        return f"ended with exit status {status}"
