"""`kipper node`: runs one node of the Launchpad program in this process.

A coordinator without companions runs as `kipper distill` does, without Launchpad. Otherwise every
host builds the same program from the same settings and runs its own part, with addresses that
are given instead of found. Launchpad would stop a program by signals to processes, which may be on
other hosts; so a node here stops only itself, and whatever started the nodes ends them all
(`fleet.py`, `slurm_jobs.py`).
"""

import json
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

from absl import flags

from kipper.common import logs
from kipper.common.datasets import load_dataset
from kipper.common.errors import UserError
from kipper.common.settings import DryRunSettings, NodeSettings, RunSettings
from kipper.common.this_python import check_launchpad
from kipper.launch.cluster.plan import COORDINATOR, head_labels
from kipper.launch.commands.display import showing_progress
from kipper.launch.commands.run import run_with_display, summary
from kipper.launch.coordinator import claimed_run
from kipper.launch.link.transports.addresses import split_address
from kipper.launch.local_program import has_evaluator, outcome
from kipper.launch.processes.process import forget_proxies
from kipper.launch.processes.stopping import StopRequest
from kipper.server.experiment import choose_rows
from kipper.server.workdir import Workdir

if TYPE_CHECKING:
    import launchpad as lp


def run_node(node: NodeSettings, settings: RunSettings) -> None:
    """The command; returns when the node has ended.

    The coordinator's node shows the run's progress and result.

    Raises:
        UserError: the node, the addresses or the run's settings cannot be used.
        KipperError: the run failed or was interrupted, if this is the coordinator.
    """
    addresses = _addresses(node.addresses)
    if node.node not in addresses:
        raise UserError(f"--node is {node.node!r}; it must be one of {', '.join(addresses)}.")
    if head_labels(settings) == (COORDINATOR,):
        # Alone it needs nothing of Launchpad, which not every Python has.
        _, port = split_address(addresses[node.node])
        run_with_display(
            DryRunSettings(), settings.replace(launch="inprocess", num_workers=0, port=port)
        )
        return
    check_launchpad("kipper node", "give --transport=grpc_tls")
    logs.quiet_native_libraries()
    forget_proxies()
    if node.node.partition("/")[0] == COORDINATOR:
        _run_coordinator(node.node, settings, addresses)
    else:
        dataset = load_dataset(settings.compute.dataset, settings.execution.data_dir)
        _run(
            node.node,
            settings,
            has_evaluator(settings, choose_rows(settings.compute, dataset)),
            addresses,
        )


def _run_coordinator(name: str, settings: RunSettings, addresses: Mapping[str, str]) -> None:
    workdir = Workdir(settings.execution.workdir)
    with claimed_run(settings) as dataset:
        with_evaluator = has_evaluator(settings, choose_rows(settings.compute, dataset))
        del dataset  # frees the pixels; the node loads its own
        workdir.forget_outcome()
        with showing_progress(workdir):
            _run(name, settings, with_evaluator, addresses)
        print(summary(workdir, outcome(workdir, asked_to_stop=False)), flush=True)


def _run(
    name: str, settings: RunSettings, with_evaluator: bool, addresses: Mapping[str, str]
) -> None:
    """Runs the node; a node that the run does not need waits until it is ended."""
    from kipper.launch.program import make_program

    program = make_program(settings, with_evaluator)
    label, _, index = name.partition("/")
    group = program.groups.get(label, [])
    if int(index) >= len(group):
        stop = StopRequest()
        with stop.asked_by_signals():
            stop.wait(float("inf"))
        return
    _bind(program, addresses)
    group[int(index)].function()


def _bind(program: "lp.Program", addresses: Mapping[str, str]) -> None:
    """Prepares nodes as Launchpad's own launch does, but across hosts."""
    import launchpad as lp
    from launchpad.launch.worker_manager import WorkerManager

    from kipper.launch.program import KnownAddress

    if not flags.FLAGS.is_parsed():
        # Seconds after SIGTERM when Launchpad kills the whole process; never if negative.
        flags.FLAGS(["kipper", "--lp_termination_notice_secs=-1"])
    WorkerManager(register_in_thread=True)  # from now on SIGTERM sets lp.stop_event()

    def stop_this_node() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    for label, nodes in program.groups.items():
        for i, node in enumerate(nodes):
            node.launch_context.initialize(
                lp.LaunchType.LOCAL_MULTI_PROCESSING, None, program_stopper=stop_this_node
            )
            for handle in node.input_handles:
                handle.connect(node, label)
            for address in node.addresses:
                address.bind(KnownAddress(addresses[f"{label}/{i}"]))


def _addresses(text: str | None) -> dict[str, str]:
    try:
        addresses = json.loads(text or "")
        for address in addresses.values():
            split_address(address)
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f'--addresses is {text!r}; it must be JSON like {{"coordinator/0": "host:7070"}}.'
        ) from error
    return dict(addresses)
