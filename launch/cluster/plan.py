"""What a run on many hosts starts: which command where, at which addresses. Plain values.

The nodes of the Launchpad program (`program.py`) run as `kipper node`, each told the addresses of
all; workers run as `kipper worker`, which knows the coordinator's alone and may come and go.
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
from kipper.server.algorithms import algorithm_of

COORDINATOR = "coordinator"
# Nodes beside the coordinator, of KIP alone, for only it has snapshots; and of runs over Courier,
# for nothing guards the ports of these two.
_COMPANIONS = ("snapshots", "evaluator")


def check_extra(cluster: str, package: str, module: str) -> None:
    """Refuses a cluster whose package, which comes with an extra of kipper, is not installed.

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
        label: the group of the Launchpad program that it is a node of, or "worker".
        index: within its group.
        arguments: of the `kipper` command.
        host: where it runs; empty where something else decides.
    """

    label: str
    index: int
    arguments: tuple[str, ...]
    host: str = ""

    @property
    def name(self) -> str:
        return f"{self.label}-{self.index}"


def check_launch(launch: LaunchSettings, settings: RunSettings) -> None:
    """Refuses what no cluster could make right.

    Raises:
        UserError: one sentence naming the flag.
    """
    settings.check()
    settings.execution.check_at_least(1, "num_workers")
    if settings.execution.overwrite:
        raise UserError(
            "--overwrite is no flag of kipper launch, because the run would start afresh whenever "
            "its coordinator is started again; give another --workdir, or empty that folder."
        )
    if launch.gpus_per_worker not in (0, 1):
        raise UserError(
            f"--gpus_per_worker is {launch.gpus_per_worker}; a worker computes on one GPU, or with "
            "0 on the CPU: raise --num_workers instead."
        )


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
    """A port for each of the `head_labels`: from the one given, or following from the workdir.

    So a coordinator that is started again listens where its workers look for it. Those that follow
    are below the ports that Linux gives away by itself.
    """
    path = os.path.abspath(settings.execution.workdir)
    first = settings.execution.port or 20000 + zlib.crc32(path.encode()) % 12000
    return [first + i for i in range(len(head_labels(settings)))]


def head_addresses(settings: RunSettings, host: str, ports: Sequence[int]) -> dict[str, str]:
    """Addresses by node: the coordinator's as others reach it, its companions' on its host."""
    hosts = [host, *(["localhost"] * len(_COMPANIONS))]
    return {
        f"{label}/0": f"{place}:{port}"
        for label, place, port in zip(head_labels(settings), hosts, ports, strict=False)
    }


def head_process(
    label: str, settings: RunSettings, addresses: Mapping[str, str], host: str = ""
) -> Process:
    """The node `label` of a run whose workers all come from elsewhere."""
    settings = settings.replace(launch="local_mp", num_workers=0)
    node = NodeSettings(node=f"{label}/0", addresses=json.dumps(addresses))
    arguments = ("node", command_of(settings), *arguments_of(node), *settings.arguments())
    return Process(label, 0, arguments, host)


def worker_process(index: int, worker: WorkerSettings, host: str = "") -> Process:
    """Worker number `index` of a run, on `host`."""
    return Process("worker", index, ("worker", *arguments_of(worker)), host)
