"""The processes of a run on many hosts: commands, hosts and addresses, as plain values.

The nodes of the Launchpad program (`program.py`) run as `kipper node` and are told all addresses.
Workers run as `kipper worker`: they are told the coordinator's address only, and may come and go.
"""

import dataclasses
import importlib.util
import json
import os
import zlib
from collections.abc import Mapping, Sequence

from kipper.common.errors import UserError
from kipper.common.settings import (
    LaunchSettings,
    NodeSettings,
    RunSettings,
    WorkerSettings,
    arguments_of,
)
from kipper.launch.link.transports import check_certificates, check_courier
from kipper.server.algorithms import algorithm_of

COORDINATOR = "coordinator"
# Nodes beside the coordinator, for runs with snapshots over Courier: certificates do not protect
# the ports of these nodes.
_COMPANIONS = ("snapshots", "evaluator")


def check_extra(cluster: str, package: str, module: str) -> None:
    """Checks that the package for a cluster, which comes with an extra of kipper, is installed.

    Raises:
        UserError: naming the package.
    """
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"--cluster={cluster} needs {package}, which is not installed; it comes with "
            "pip install 'kipper[cluster]'."
        )


@dataclasses.dataclass(frozen=True)
class Process:
    """One process of a run.

    Attributes:
        label: its group in the Launchpad program, or "worker".
        index: within its group.
        arguments: of the `kipper` command.
        host: where it runs; empty if the cluster decides.
    """

    label: str
    index: int
    arguments: tuple[str, ...]
    host: str = ""

    @property
    def name(self) -> str:
        return f"{self.label}-{self.index}"


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


def command_of(settings: RunSettings) -> str:
    """The command whose settings these are."""
    return algorithm_of(settings.compute).command


def head_labels(settings: RunSettings) -> tuple[str, ...]:
    """Labels of the nodes that run on the coordinator's host, the coordinator's first."""
    has_companions = (
        algorithm_of(settings.compute).holds_out_validation
        and settings.execution.transport == "courier"
    )
    return (COORDINATOR, *(_COMPANIONS if has_companions else ()))


def fixed_ports(settings: RunSettings) -> list[int]:
    """A port for each of the `head_labels`, from --port or derived from the workdir.

    A coordinator that is restarted thus listens where its workers look for it. Derived ports are
    below the range that Linux assigns.
    """
    path = os.path.abspath(settings.execution.workdir)
    first = settings.execution.port or 20000 + zlib.crc32(path.encode()) % 12000
    return [first + i for i in range(len(head_labels(settings)))]


def head_addresses(settings: RunSettings, host: str, ports: Sequence[int]) -> dict[str, str]:
    """Addresses by node: the coordinator at `host`, its companions at localhost."""
    hosts = [host, *(["localhost"] * len(_COMPANIONS))]
    return {
        f"{label}/0": f"{place}:{port}"
        for label, place, port in zip(head_labels(settings), hosts, ports, strict=False)
    }


def head_process(
    label: str, settings: RunSettings, addresses: Mapping[str, str], host: str = ""
) -> Process:
    """The node `label` of a run that starts no workers itself."""
    settings = settings.replace(launch="local_mp", num_workers=0)
    node = NodeSettings(node=f"{label}/0", addresses=json.dumps(addresses))
    arguments = ("node", command_of(settings), *arguments_of(node), *settings.arguments())
    return Process(label, 0, arguments, host)


def worker_process(index: int, worker: WorkerSettings, host: str = "") -> Process:
    """Worker number `index` of a run, on `host`."""
    return Process("worker", index, ("worker", *arguments_of(worker)), host)
