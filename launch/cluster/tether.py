"""Ties a process to its standard input: when that closes, the process is ended.

    python -m kipper.launch.cluster.tether COMMAND ARGUMENT …

Run on a host by ssh, it leaves no orphan there: whatever ends the ssh at the other side (Ctrl-C,
SIGKILL, a lost connection) closes this side's standard input. Nobody has to be able to reach the
host once more to clean up, and no terminal is needed.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

# What the other side may write: asks the process to end; ends it.
STOP, KILL = b"T", b"K"

# From the end of standard input to SIGKILL, for a coordinator that writes its checkpoint.
GRACE_SECONDS = 120.0
_PR_SET_PDEATHSIG = 1


def run(command: Sequence[str], grace_seconds: float = GRACE_SECONDS) -> int:
    """Runs the command to its end, or to that of standard input; returns the shell's exit status.

    `STOP` on standard input sends the process SIGTERM, `KILL` sends its group SIGKILL. The end of
    standard input is the first, and the second once the grace is over. To be called in the main
    thread, before there are others.
    """
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm's warning is for the job; inherited
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_this
    )
    watcher = threading.Thread(target=_watch_input, args=(child, grace_seconds), daemon=True)
    watcher.start()
    # Whoever signals all processes of a host or a job has reached the child as well.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    status = child.wait()
    _send_group(child, signal.SIGKILL)  # what it may have started and left behind
    return status if status >= 0 else 128 - status


def _die_with_this() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch_input(child: "subprocess.Popen[bytes]", grace_seconds: float) -> None:
    while word := os.read(sys.stdin.fileno(), 1):
        if word == STOP:
            _send(child, signal.SIGTERM)
        elif word == KILL:
            _send_group(child, signal.SIGKILL)
    _send(child, signal.SIGTERM)
    try:
        child.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        _send_group(child, signal.SIGKILL)


def _send(child: "subprocess.Popen[bytes]", number: int) -> None:
    if child.poll() is None:
        child.send_signal(number)


def _send_group(child: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:]))
    except FileNotFoundError as error:
        sys.exit(f"kipper: {error.filename} is not there.")
