"""The Launchpad program of a run, read from top to bottom.

worker × N    Courier servers that compute kernel blocks
coordinator   tiles, dispatches, regresses, descends; stops the program when it is done
snapshots     a Reverb table of evaluated snapshots
evaluator     scores the newest on held-out images and keeps the best

The last two are there for KIP only, and only if images were held out.
"""

import launchpad as lp
from launchpad.nodes.reverb.node import ReverbNode

from kipper.common.settings import RunSettings
from kipper.launch import nodes
from kipper.launch.reverb_snapshots import snapshot_tables


class SnapshotNode(ReverbNode):
    """A Reverb server that dies with the launcher."""

    def __init__(self, own_process: bool):
        super().__init__(snapshot_tables)
        self._own_process = own_process

    def run(self) -> None:
        nodes.enter_node(self._own_process)
        super().run()


def make_program(settings: RunSettings, with_evaluator: bool) -> lp.Program:
    """The program; `with_evaluator` adds the nodes that look at snapshots."""
    own_process = settings.launch == "local_mp"
    program = lp.Program("kipper")

    workers: list[lp.Address] = []
    with program.group("worker"):
        for _ in range(settings.num_workers):
            worker = lp.CourierNode(nodes.WorkerNode, own_process)
            program.add_node(worker)
            workers.append(worker.courier_address)

    snapshots = evaluator = None
    if with_evaluator:
        with program.group("snapshots"):
            table = SnapshotNode(own_process)
            program.add_node(table)
            snapshots = table.reverb_address
        with program.group("evaluator"):
            node = lp.CourierNode(nodes.EvaluatorNode, settings, snapshots, own_process)
            program.add_node(node)
            evaluator = node.courier_address

    with program.group("coordinator"):
        program.add_node(
            lp.PyNode(nodes.run_coordinator, settings, workers, snapshots, evaluator, own_process)
        )
    return program
