"""What a worker needs of a Ray node, how many workers fit into the cluster, and what it lacks."""

import dataclasses
from collections.abc import Sequence

from kipper.common.errors import UserError
from kipper.common.settings.execution import RayDevice, WorkerCount


@dataclasses.dataclass(frozen=True)
class Resources:
    """Numbers of CPUs and GPUs, as Ray counts them: of a node, or that a worker takes."""

    cpus: float
    gpus: float = 0

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU" + (f", {self.gpus:g} GPU" if self.gpus else "")

    def room_for(self, need: "Resources") -> int:
        """How many times `need` fits."""
        by_cpus = self.cpus // need.cpus
        return int(min(by_cpus, self.gpus // need.gpus) if need.gpus else by_cpus)


def need_of(
    nodes: Sequence[Resources], device: RayDevice, threads: int | None, num_workers: WorkerCount
) -> Resources:
    """The resources that each worker of a run takes.

    With GPUs it is one, and `threads` CPUs or one. Else it is `threads` CPUs; by default the CPUs
    are divided by the number of workers, and no worker takes more than the smallest node has.

    Args:
        nodes: what the cluster's nodes have.
        device: value of --ray_device.
        threads: value of --threads.
        num_workers: value of --num_workers.

    Raises:
        UserError: GPUs are wanted, and no node has any.
    """
    has_gpus = any(node.gpus >= 1 for node in nodes)
    if device == "gpu" and not has_gpus:
        raise UserError(
            "--ray_device=gpu needs a cluster with GPUs, and no node has any that JAX can use; "
            "give --ray_device=cpu."
        )
    if has_gpus and device != "cpu":
        return Resources(threads or 1, 1)
    cpus = [int(node.cpus) for node in nodes if node.cpus >= 1]
    share = min(cpus, default=1)
    if num_workers != "all":
        share = min(share, sum(cpus) // max(1, num_workers))
    return Resources(threads or max(1, share))


def room_for(need: Resources, nodes: Sequence[Resources]) -> int:
    """How many workers fit on the nodes, if nothing else runs there."""
    return sum(node.room_for(need) for node in nodes)


def why_waiting(
    number: int,
    total: int,
    need: Resources,
    nodes: Sequence[Resources],
    free: Resources,
) -> str:
    """Why workers are not placed, in the words of `ray status`.

    Args:
        number: how many wait.
        total: how many the run wants.
        need: the resources of each.
        nodes: what the cluster's nodes have.
        free: the resources of the cluster that nobody uses.
    """
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    usage = f"{cpus - free.cpus:g}/{cpus:g} CPU"
    if gpus or need.gpus:
        usage += f", {gpus - free.gpus:g}/{gpus:g} GPU"
    said = (
        f"{number} of {total} workers wait for a place on Ray. Demands: {need}, {number} times; "
        f"usage: {usage} on "
        f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}"
    )
    if not any(node.room_for(need) for node in nodes):
        said += "; no node is large enough"
    return said + ("." if number == total else "; the run goes on with the others.")
