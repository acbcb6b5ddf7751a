"""A run under Slurm, submitted by submitit: the coordinator as a job, workers as an array.

Both are requeued when they are preempted or reach their time limit, and may then run on other
hosts. So the coordinator writes its address into a file of the workdir at every start, and workers
follow it (`slurm_jobs.py`). The workdir must be on a file system that all hosts share.
"""

import importlib
import importlib.util
import os
import pathlib
import secrets
import shlex
import shutil
import socket
import sys
from typing import Any

from kipper.common.errors import KipperError, UserError
from kipper.common.settings import LaunchSettings, RunSettings
from kipper.launch.cluster.meeting_point import MeetingPoint
from kipper.launch.cluster.plan import check_extra, check_transport
from kipper.server.status import read_status, was_written_lately
from kipper.server.workdir import Workdir

# Time of a job to finish before its time limit, or after a preemption was announced.
_SIGNAL_SECONDS = 180
_MINUTES = 24 * 60  # unless --sbatch=time=… is given; the job is requeued after it
# Jobs are requeued until the run ends.
_MAX_TIMEOUTS = 10**6
_LOGGING = "SUBMITIT_LOG_LEVEL"
_Parameters = dict[str, Any]  # of submitit's `SlurmExecutor`


class NotSubmitted(KipperError):
    """sbatch rejected a job."""


def launch_on_slurm(launch: LaunchSettings, settings: RunSettings) -> None:
    """Submits the jobs and returns; Slurm runs them.

    Raises:
        UserError: a flag cannot be used, or submitit or Slurm is missing.
        NotSubmitted: sbatch's reason.
    """
    submitit = import_submitit()
    check_transport(launch, settings)
    settings = settings.replace(workdir=os.path.abspath(settings.execution.workdir))
    folder = pathlib.Path(settings.execution.workdir) / "slurm"
    num_workers = settings.execution.fixed_workers
    coordinator, workers = coordinator_parameters(launch), worker_parameters(launch, settings)
    if launch.dry_run:
        for title, text in (
            ("the coordinator", submission_text(launch, folder, coordinator, 1)),
            ("the workers", submission_text(launch, folder, workers, num_workers)),
        ):
            print(f"# sbatch of {title}\n{text}")
        return
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError(
            "sbatch is not on the path; run this on a login host of the cluster, or give --dry_run "
            "to see what would be submitted."
        )

    def executor(parameters: _Parameters) -> Any:
        made = submitit.SlurmExecutor(folder, _MAX_TIMEOUTS, python=_python(launch))
        made.update_parameters(**parameters)
        return made

    try:
        head, *rest = submit(launch, settings, executor(coordinator), executor(workers))
    except submitit.core.utils.FailedJobError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise NotSubmitted(f"sbatch rejected the job: {reason}.") from error
    array = rest[0].job_id.partition("_")[0]
    print(
        f"coordinator   job {head.job_id}\nworkers       job {array}\nlogs          {folder}\n"
        f"scancel {head.job_id} {array}   stops the run; the same command resumes it."
    )


def import_submitit() -> Any:
    """Imports the package without letting it configure this process's logging.

    Raises:
        UserError: it is not installed.
    """
    check_extra("slurm", "submitit", "submitit")
    before = os.environ.get(_LOGGING)
    os.environ[_LOGGING] = "NOCONFIG"
    try:
        return importlib.import_module("submitit")
    finally:  # the jobs inherit the environment, and may log as submitit does
        os.environ.pop(_LOGGING)
        if before is not None:
            os.environ[_LOGGING] = before


def submit(
    launch: LaunchSettings, settings: RunSettings, for_coordinator: Any, for_workers: Any
) -> list[Any]:
    """Submits all jobs through two executors of submitit; returns the coordinator's job first.

    Raises:
        UserError: the workdir cannot be written, or another run is in it.
    """
    from kipper.launch.cluster.slurm_jobs import CoordinatorJob, WorkerJob

    workdir = Workdir(settings.execution.workdir)
    workdir.check_free()
    _check_silent(workdir)
    workdir.make_logs()
    launch_id = secrets.token_hex(8)
    MeetingPoint(settings.execution.workdir, launch_id).open()
    python = launch.python or sys.executable
    return [
        for_coordinator.submit(CoordinatorJob(settings, launch_id, python)),
        *for_workers.submit_array(
            [
                WorkerJob(settings, launch_id, python, index)
                for index in range(settings.execution.fixed_workers)
            ]
        ),
    ]


def _check_silent(workdir: Workdir) -> None:
    """Checks that no coordinator of an earlier launch seems to be alive on another host.

    Not every shared file system has locks between hosts, and announcing a new launch would take the
    workers of the earlier one away.

    Raises:
        UserError: naming the host.
    """
    status = read_status(workdir.status)
    is_here = status.host in (None, socket.gethostname())
    if status.state == "running" and not is_here and was_written_lately(workdir.status):
        raise UserError(
            f"A run in {workdir.path} was alive on host {status.host} less than two minutes ago; "
            "scancel its jobs, or wait until it has been silent for so long."
        )


def coordinator_parameters(launch: LaunchSettings) -> _Parameters:
    """Parameters of submitit's `SlurmExecutor` for the coordinator."""
    return {
        "job_name": f"{launch.name}-coordinator",
        "time": _MINUTES,
        "signal_delay_s": _SIGNAL_SECONDS,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **_more_options(launch)},
    }


def worker_parameters(launch: LaunchSettings, settings: RunSettings) -> _Parameters:
    """Parameters of submitit's `SlurmExecutor` for the workers, which may all run at once."""
    gpus = {"gpus_per_node": launch.gpus_per_worker} if launch.gpus_per_worker else {}
    return {
        **coordinator_parameters(launch),
        "job_name": f"{launch.name}-worker",
        "array_parallelism": settings.execution.fixed_workers,
        **gpus,
    }


def submission_text(
    launch: LaunchSettings, folder: pathlib.Path, parameters: _Parameters, jobs: int
) -> str:
    """The script that submitit passes to sbatch for a number of jobs."""
    # submitit offers no public way without Slurm; its version is pinned, and a test compares.
    from submitit.slurm.slurm import _make_sbatch_string

    command = shlex.join(["-u", "-m", "submitit.core._submit", str(folder)])
    count = jobs if jobs > 1 else None
    return _make_sbatch_string(
        f"{_python(launch)} {command}", folder, map_count=count, **parameters
    )


def _python(launch: LaunchSettings) -> str:
    return shlex.quote(launch.python or sys.executable)


def _more_options(launch: LaunchSettings) -> dict[str, str | bool]:
    """The options in --sbatch by name; an option without a value is True."""
    options: dict[str, str | bool] = {}
    for option in filter(None, (launch.sbatch or "").split(",")):
        name, equals, value = option.partition("=")
        if not name.replace("-", "").replace("_", "").isalnum() or (equals and not value):
            raise UserError(
                f"--sbatch has {option!r}; it must be a list like partition=gpu,time=24:00:00."
            )
        options[name.replace("-", "_")] = value if equals else True
    return options
