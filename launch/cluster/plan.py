"""The processes of a run on many hosts: commands and hosts, as plain values.

The coordinator is `kipper distill` or `kipper solve_labels` without workers of its own. Workers run
as `kipper worker`: they are told the coordinator's address only, and may come and go.
"""

import dataclasses
import os
import zlib

from kipper.common.errors import UserError
from kipper.common.settings import LaunchSettings, RunSettings, WorkerSettings, arguments_of
from kipper.launch.link.transports import check_certificates, check_courier
from kipper.server.algorithms import algorithm_of


@dataclasses.dataclass(frozen=True)
class Process:
    """One process of a run.

    Attributes:
        name: unique in the run.
        arguments: the arguments of the `kipper` command.
        host: where it runs; empty if the cluster decides.
    """

    name: str
    arguments: tuple[str, ...]
    host: str = ""


def check_launch(launch: LaunchSettings, settings: RunSettings) -> None:
    """Checks settings that are wrong on every cluster.

    Raises:
        UserError: one sentence that names the flag.
    """
    settings.check()
    if settings.execution.launch == "ray":
        raise UserError(
            "--launch=ray is no flag of kipper launch, which starts processes on hosts; "
            "kipper distill --launch=ray runs on the hosts of a Ray cluster."
        )
    settings.execution.check_at_least(1, "num_workers")
    if settings.execution.overwrite:
        raise UserError(
            "--overwrite is no flag of kipper launch, because the run would start afresh whenever "
            "its coordinator is restarted; give another --workdir, or empty that folder."
        )
    if launch.gpus_per_worker not in (0, 1):
        raise UserError(
            f"--gpus_per_worker is {launch.gpus_per_worker}; a worker computes on one GPU, or with "
            "0 on the CPU: raise --num_workers instead."
        )


def check_transport(launch: LaunchSettings, settings: RunSettings) -> None:
    """Checks that processes of this Python on other hosts can have the run's transport.

    Raises:
        UserError: it needs Launchpad, which this Python lacks, or certificates.
    """
    execution = settings.execution
    check_certificates(execution.transport, execution.certificates)
    if launch.python is None:  # or the hosts have another Python
        check_courier(execution.transport)


def fixed_port(settings: RunSettings) -> int:
    """--port, or a port derived from the workdir, below the range that Linux assigns.

    A coordinator that is restarted thus listens where its workers look for it.
    """
    path = os.path.abspath(settings.execution.workdir)
    return settings.execution.port or 20000 + zlib.crc32(path.encode()) % 12000


def coordinator_process(settings: RunSettings, name: str, port: int, host: str = "") -> Process:
    """The coordinator on `host`, which workers know by `name` and reach at `port`."""
    settings = settings.replace(launch="inprocess", num_workers=0, host=name, port=port)
    command = algorithm_of(settings.compute).command
    return Process("coordinator-0", (command, *settings.arguments()), host)


def worker_process(worker: WorkerSettings, host: str = "") -> Process:
    """A worker on `host`."""
    assert worker.name is not None
    return Process(worker.name, ("worker", *arguments_of(worker)), host)
