"""Settings of `launch` and of what it starts, beside those of the run."""

import dataclasses

from kipper.common.settings.field import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """Settings of `launch` beside those of the run that it launches."""

    cluster: str | None = setting(None, "hosts:FILE (by ssh), slurm or kubernetes.")
    dry_run: bool = setting(False, "Print what would be started; start and write nothing.")
    name: str = setting("kipper", "Slurm, Kubernetes: what jobs and objects are called.")
    gpus_per_worker: int = setting(1, "Slurm, Kubernetes: GPUs to ask for, for each worker.")
    ssh: str = setting(
        "ssh -o BatchMode=yes -o ServerAliveInterval=15",
        "Hosts: what is put before a host's name and a command, to run it there.",
    )
    python: str | None = setting(
        None, "Hosts, Slurm: the Python that has kipper, on every host; this one if not given."
    )
    directory: str | None = setting(
        None, "Hosts: the folder to work in, on every host; this one if not given."
    )
    sbatch: str | None = setting(
        None, "Slurm: more options of sbatch, as in partition=gpu,time=24:00:00,account=lab."
    )
    image: str | None = setting(None, "Kubernetes: image made of the Dockerfile.")
    namespace: str = setting("default", "Kubernetes: namespace of all objects.")
    volume: str | None = setting(
        None,
        "Kubernetes: CLAIM:FOLDER, where the coordinator mounts a PersistentVolumeClaim that "
        "holds the workdir and the data; a new claim at /kipper if not given.",
    )
    lp_launch_type: str | None = setting(
        None, "Instead of --cluster: a launch of Launchpad's own.", ("vertex_ai",)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """Settings of `node` beside those of the run that the node belongs to."""

    node: str = setting(None, "LABEL/INDEX of this node.")
    addresses: str = setting(None, "host:port of every node, as JSON by LABEL/INDEX.")
