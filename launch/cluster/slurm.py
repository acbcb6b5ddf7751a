"""A run under Slurm, submitted by sbatch: the coordinator as a job, workers as an array of jobs.

Both are requeued when they are preempted or reach their time limit, and may then run on other
hosts. So the coordinator writes its address into a file of the workdir at every start, and workers
follow it (`slurm_jobs.py`). The workdir must be on a file system that all hosts share.
"""

import os
import pathlib
import shlex
import shutil
import socket
import sys
import time

from kipper.common.errors import KipperError, UserError
from kipper.common.settings import LaunchSettings, RunSettings, SlurmJobSettings, arguments_of
from kipper.launch.cluster import slurm_queue
from kipper.launch.cluster.meeting_point import MeetingPoint, read_launch
from kipper.launch.cluster.plan import check_transport
from kipper.launch.cluster.slurm_queue import SlurmError
from kipper.server.algorithms import algorithm_of
from kipper.server.status import read_status, was_written_lately
from kipper.server.workdir import Workdir

# Time of a job to finish before its time limit, or after a preemption was announced.
SIGNAL_SECONDS = 180
_ENDING_SECONDS = 60.0
_CPUS = 4  # of a job, unless --threads or --sbatch says otherwise


class NotSubmitted(KipperError):
    """Slurm rejected a job."""


def launch_on_slurm(launch: LaunchSettings, settings: RunSettings) -> None:
    """Submits the jobs and returns; Slurm runs them.

    Raises:
        UserError: a flag cannot be used, Slurm is missing, or a run lives in the workdir.
        NotSubmitted: sbatch's reason.
    """
    check_transport(launch, settings)
    settings = settings.replace(workdir=os.path.abspath(settings.execution.workdir))
    workdir = Workdir(settings.execution.workdir)
    for_coordinator = _options(launch, "sbatch_coordinator")
    for_worker = _options(launch, "sbatch_worker")
    if launch.dry_run:
        print(_shown("the coordinator", for_coordinator, coordinator_script(launch, settings)))
        print(_shown("the workers", for_worker, worker_script(launch, settings, "COORDINATOR")))
        return
    if shutil.which("sbatch") is None:
        raise UserError(
            "sbatch is not on the path; run this on a login host of the cluster, or give --dry_run "
            "to see what would be submitted."
        )
    _check_over(workdir)  # names the jobs, where a lock names a process of another host
    with workdir.launched():
        _check_over(workdir)
        _check_silent(workdir)
        _logs(settings).mkdir(exist_ok=True)
        # It waits until the workers are submitted too, and everything is recorded.
        head = _submit(["--hold", *for_coordinator], coordinator_script(launch, settings))
        try:
            workers = _submit(for_worker, worker_script(launch, settings, head))
            MeetingPoint(str(workdir.path), head).open(workers)
        except BaseException:
            slurm_queue.cancel(head)
            raise
    slurm_queue.call("scontrol", "release", head)
    print(
        f"coordinator   job {head}\nworkers       job {workers}\nlogs          {_logs(settings)}\n"
        f"scancel {head} {workers}   stops the run; the same command resumes it."
    )


def coordinator_script(launch: LaunchSettings, settings: RunSettings) -> str:
    """The batch script of the coordinator."""
    return _script(launch, settings, "coordinator", "%j", [f"cpus-per-task={_CPUS}"], None)


def worker_script(launch: LaunchSettings, settings: RunSettings, coordinator_job: str) -> str:
    """The batch script of the workers, which begin once the coordinator's job has begun."""
    options = [
        f"array=0-{settings.execution.fixed_workers - 1}",
        f"cpus-per-task={settings.execution.threads or _CPUS}",
        f"dependency=after:{coordinator_job}",
        *([f"gpus-per-node={launch.gpus_per_worker}"] if launch.gpus_per_worker else []),
    ]
    return _script(launch, settings, "worker", "%A_%a", options, coordinator_job)


def _script(
    launch: LaunchSettings,
    settings: RunSettings,
    label: str,
    number: str,
    options: list[str],
    coordinator_job: str | None,
) -> str:
    """A script that executes `kipper slurm_job`, so that Slurm's warning reaches it."""
    output = str(_logs(settings) / label).replace("%", "%%")
    lines = [
        f"job-name={shlex.quote(f'{launch.name}-{label}')}",
        "nodes=1",
        "ntasks=1",
        *options,
        "time=1-00:00:00",
        f"signal=B:USR2@{SIGNAL_SECONDS}",
        "requeue",
        "open-mode=append",
        f"output={shlex.quote(f'{output}-{number}.log')}",
    ]
    job = SlurmJobSettings(
        coordinator_job=coordinator_job,
        needs_gpu=coordinator_job is not None and launch.gpus_per_worker > 0,
    )
    command = [
        *(launch.python or sys.executable, "-u", "-m", "kipper", "slurm_job"),
        algorithm_of(settings.compute).command,
        *arguments_of(job),
        *settings.arguments(),
    ]
    directives = "\n".join(f"#SBATCH --{line}" for line in lines)
    return f"#!/bin/sh\n{directives}\nexec {shlex.join(command)}\n"


def _options(launch: LaunchSettings, further: str) -> list[str]:
    """The words of --sbatch and of a flag for one of the jobs, which override the script's."""
    words = []
    for flag in ("sbatch", further):
        text = getattr(launch, flag) or ""
        try:
            found = shlex.split(text)
        except ValueError as error:
            raise UserError(f"--{flag} has {text!r}: {error}.") from error
        if found and not found[0].startswith("-"):
            raise UserError(
                f"--{flag} has {text!r}; it must be options of sbatch, like "
                f"--{flag}='--partition=gpu --time=24:00:00'."
            )
        words += found
    return words


def _shown(what: str, options: list[str], script: str) -> str:
    return f"# {shlex.join(['sbatch', *options])}, of {what}:\n{script}"


def _submit(options: list[str], script: str) -> str:
    """Submits a script; returns the job's number.

    Raises:
        NotSubmitted: sbatch's reason.
    """
    try:
        said = slurm_queue.call("sbatch", "--parsable", *options, text=script)
    except SlurmError as error:
        raise NotSubmitted(f"sbatch rejected the job: {error}") from error
    return said.splitlines()[-1].partition(";")[0]  # the cluster's name may follow


def _logs(settings: RunSettings) -> pathlib.Path:
    return pathlib.Path(settings.execution.workdir) / "slurm"


def _check_over(workdir: Workdir) -> None:
    """Checks that no job of an earlier launch runs, or waits to run again.

    Raises:
        UserError: naming the jobs.
        NotSubmitted: Slurm gives no answer.
    """
    launch = read_launch(workdir.path)
    if launch is None:
        return
    jobs = launch.coordinator_job, launch.workers_job
    deadline = time.monotonic() + _ENDING_SECONDS
    while (states := slurm_queue.living(*jobs)) and time.monotonic() < deadline:
        if states.get(launch.coordinator_job) != "COMPLETING":
            break  # a job that was cancelled a moment ago will be gone, a requeued one will wait
        time.sleep(1.0)
    if states is None:
        raise NotSubmitted("squeue does not say whether the last launch's jobs still live.")
    if launch.coordinator_job in states:
        listed = ", ".join(f"job {job} is {state}" for job, state in states.items())
        raise UserError(
            f"The run in {workdir.path} lives: {listed}. Slurm goes on with it by itself; to stop "
            f"it, scancel {' '.join(jobs)}."
        )
    if states:
        slurm_queue.cancel(*states)  # they would end by themselves


def _check_silent(workdir: Workdir) -> None:
    """Checks that no coordinator of another kind seems to be alive on another host.

    Not every shared file system has locks between hosts.

    Raises:
        UserError: naming the host.
    """
    status = read_status(workdir.status)
    is_here = status.host in (None, socket.gethostname())
    if status.state == "running" and not is_here and was_written_lately(workdir.status):
        raise UserError(
            f"A run in {workdir.path} was alive on host {status.host} less than two minutes ago; "
            "end it there, or wait until it has been silent for so long."
        )
