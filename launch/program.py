"""The Launchpad program of a run, read from top to bottom.

coordinator   runs the algorithm; when it ends, the program ends
worker × N    compute kernel blocks; they join the coordinator, as workers of other hosts may
snapshots     a Reverb table of evaluated snapshots
evaluator     scores the newest on held-out images and keeps the best

The last two exist only if images were held out, for KIP.
"""

from typing import Any

import kipper.common.whole_jax  # noqa: F401 (before Reverb, which brings JAX)

# isort: split
import launchpad as lp
from launchpad.nodes.reverb.node import ReverbNode

from kipper.common.settings import RunSettings
from kipper.launch import nodes
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.reverb_snapshots import snapshot_tables


class SnapshotNode(ReverbNode):
    """A Reverb server that dies with the launcher."""

    def __init__(self, settings: RunSettings, own_process: bool):
        super().__init__(snapshot_tables)
        self._settings = settings
        self._own_process = own_process

    def run(self) -> None:
        nodes.enter_node(self._settings, self._own_process)
        super().run()


class CoordinatorNode(lp.PyNode):
    """The coordinator, with an address where workers join."""

    def __init__(self, settings: RunSettings, registration: lp.Address, *rest: Any):
        super().__init__(nodes.run_coordinator, settings, registration, *rest)
        registration.assign(self)
        self._registration = registration
        self._port = settings.execution.port

    def bind_addresses(self, **kwargs: Any) -> None:
        super().bind_addresses(**kwargs)
        if self._port is not None:
            self._registration.bind(KnownAddress(f"localhost:{self._port}"))


class KnownAddress(lp.AbstractAddressBuilder):
    """A host:port that is given instead of found."""

    def __init__(self, address: str):
        self._address = address

    def build(self) -> str:
        return self._address


def make_program(
    settings: RunSettings, with_evaluator: bool, stop: StopRequest | None = None
) -> lp.Program:
    """The program.

    Args:
        settings: the settings of the run.
        with_evaluator: adds the nodes that score snapshots.
        stop: asks the coordinator to stop if it is a thread; a process is asked by SIGTERM.
    """
    own_process = settings.execution.launch == "local_mp"
    program = lp.Program("kipper")
    registration = lp.Address()

    snapshots = evaluator = None
    if with_evaluator:
        with program.group("snapshots"):
            table = SnapshotNode(settings, own_process)
            program.add_node(table)
            snapshots = table.reverb_address
        with program.group("evaluator"):
            node = lp.CourierNode(nodes.EvaluatorNode, settings, snapshots, own_process)
            program.add_node(node)
            evaluator = node.courier_address

    with program.group("coordinator"):
        program.add_node(
            CoordinatorNode(
                settings, registration, snapshots, evaluator, own_process, stop or StopRequest()
            )
        )

    if settings.execution.fixed_workers:
        with program.group("worker"):
            for i in range(settings.execution.fixed_workers):
                program.add_node(
                    lp.PyNode(nodes.run_worker_node, settings, i, registration, own_process)
                )
    return program
