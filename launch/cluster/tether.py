"""Ties a process to its standard input: when that closes, the process is ended.

    python -m kipper.launch.cluster.tether COMMAND ARGUMENT …

Run on a host by ssh, it leaves no orphan there: whatever ends the ssh at the other side (Ctrl-C,
SIGKILL, a lost connection) closes this side's standard input. The host need not be reachable again
to clean up, and no terminal is needed.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from kipper.launch.processes.exit_codes import shell_status
from kipper.launch.processes.process import die_with_parent

# Begins the line on standard error that tells the other side that its command has arrived.
ARRIVED = "This host has started process"

# What the other side may write: STOP asks the process to end, KILL kills it.
STOP, KILL = b"T", b"K"

# Time from the end of standard input to SIGKILL, for a coordinator that writes its checkpoint.
GRACE_SECONDS = 120.0


def run(command: Sequence[str], grace_seconds: float = GRACE_SECONDS) -> int:
    """Runs the command until it or standard input ends; returns a shell's exit status.

    `STOP` on standard input sends the process SIGTERM, `KILL` sends its group SIGKILL. The end of
    standard input does the first, and the second after the grace. Call this in the main thread,
    before there are others.
    """
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm's warning is for the job; inherited
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=functools.partial(die_with_parent, os.getpid()),
    )
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{ARRIVED} {child.pid}.\n".encode())
    watcher = threading.Thread(target=_watch_input, args=(child, grace_seconds), daemon=True)
    watcher.start()
    # A signal to all processes of a host or a job reaches the child as well.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    status = child.wait()
    _send_group(child, signal.SIGKILL)  # processes that it started and left behind
    return shell_status(status)


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
        sys.exit(f"kipper: {error.filename} does not exist.")
