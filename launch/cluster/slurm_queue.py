"""Questions and requests to Slurm about jobs, by its own commands."""

import os
import shutil
import signal
import subprocess

from kipper.common.errors import KipperError
from kipper.launch.processes.terminal import tell_terminal

_SECONDS = 60.0
# States of a job that has not begun, or begins again.
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")


class SlurmError(KipperError):
    """A command of Slurm failed; the message is its last line."""


def call(*command: str, text: str | None = None) -> str:
    """Runs a command of Slurm with `text` as its input; returns its output.

    Raises:
        SlurmError: it failed, or is not installed.
    """
    try:
        done = subprocess.run(
            command, input=text or "", capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"{command[0]} cannot be run: {error}.") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"{command[0]} gave no reason"]
        raise SlurmError(f"{lines[-1].rstrip('.')}.")
    return done.stdout.strip()


def living(*jobs: str) -> dict[str, str] | None:
    """The states of those jobs that have not ended, such as RUNNING; None if squeue cannot tell.

    An array of jobs counts as one, which runs if any of its members does.
    """
    if shutil.which("squeue") is None:
        return None
    try:
        # Of one job that it has forgotten, squeue says that it failed; of several, nothing.
        listed = call(
            "squeue", "--noheader", f"--jobs={','.join([*jobs, *jobs])}", "--format=%F %T"
        )
    except SlurmError:
        return None
    found: dict[str, str] = {}
    for line in listed.splitlines():
        job, state = line.split()
        if found.get(job) != "RUNNING":
            found[job] = state
    return found


def is_waiting(state: str) -> bool:
    """Whether a job in this state has yet to begin, for the first time or again."""
    return state in _WAITING


def own_job() -> str:
    """Slurm's number of the job that this process is in: 12, or 12_3 of an array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is None:
        return os.environ["SLURM_JOB_ID"]
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def cancel(*jobs: str) -> None:
    """Makes Slurm end jobs.

    Raises:
        SlurmError: it did not.
    """
    call("scancel", *jobs)


def requeue(after: str | None) -> None:
    """Requeues this process's job; it begins again after the job `after` has begun, if given.

    Raises:
        SlurmError: it does not.
    """
    tell_terminal("Slurm has this job begin again.")
    # Slurm then sends it to all processes of the job, and so to scontrol.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    call("scontrol", "requeue", own_job())
    if after is not None:
        call("scontrol", "update", f"JobId={own_job()}", f"Dependency=after:{after}")
