"""Settings of `launch` and of the jobs that it submits, besides those of the run."""

import dataclasses

from kipper.common.settings.field import Settings, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchSettings(Settings):
    """Settings of `launch` besides those of the run that it starts."""

    cluster: str | None = setting(None, "hosts:FILE (by ssh) or slurm.")
    dry_run: bool = setting(False, "Print what would be started; start and write nothing.")
    name: str = setting("kipper", "Slurm: name of the jobs.")
    gpus_per_worker: int = setting(1, "Slurm: GPUs to request for each worker.")
    ssh: str = setting(
        "ssh -o BatchMode=yes -o ServerAliveInterval=15",
        "Hosts: the words before a host's name and a command that run the command there.",
        elsewhere=True,
    )
    python: str | None = setting(
        None,
        "Hosts, Slurm: the Python with kipper on every host; by default this one's path.",
        elsewhere=True,
    )
    directory: str | None = setting(
        None,
        "Hosts: the working directory on every host; by default this one.",
        elsewhere=True,
    )
    sbatch: str | None = setting(
        None,
        "Slurm: options of sbatch for all jobs, such as '--partition=gpu --time=24:00:00'.",
        elsewhere=True,
    )
    sbatch_coordinator: str | None = setting(
        None,
        "Slurm: further options of sbatch for the coordinator, such as '--partition=cpu'.",
        elsewhere=True,
    )
    sbatch_worker: str | None = setting(
        None,
        "Slurm: further options of sbatch for the workers, such as '--nodelist=n1,n2'.",
        elsewhere=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmJobSettings(Settings):
    """Settings of `slurm_job` besides those of the run that the job belongs to."""

    coordinator_job: str | None = setting(
        None, "Number of the coordinator's job, in a worker's job; by default this is that job."
    )
    needs_gpu: bool = setting(False, "Whether the job's worker must compute on a GPU.")
