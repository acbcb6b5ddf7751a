"""Settings of `launch` and of the nodes that it starts, besides those of the run."""

import dataclasses

from kipper.common.settings.field import Settings, required, setting


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
    )
    python: str | None = setting(
        None, "Hosts, Slurm: the Python with kipper on every host; by default this one's path."
    )
    directory: str | None = setting(
        None, "Hosts: the working directory on every host; by default this one."
    )
    sbatch: str | None = setting(
        None, "Slurm: more options of sbatch, such as partition=gpu,time=24:00:00,account=lab."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeSettings(Settings):
    """Settings of `node` besides those of the run that the node belongs to."""

    node: str = required("LABEL/INDEX of this node.")
    addresses: str = required("host:port of every node, as JSON by LABEL/INDEX.")
