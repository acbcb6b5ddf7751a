"""What runs in each node of the Launchpad program: thin shells around the pure parts.

Addresses are known only once a node runs, so nodes take Launchpad's `Address` values.
`own_process` says whether a node has a process to itself (local_mp) or shares one (local_mt).
"""

import dataclasses
import signal
from collections.abc import Callable

import launchpad as lp
import numpy as np
from absl import logging

from kipper.common import logs
from kipper.common.errors import KipperError
from kipper.common.files import write_text
from kipper.common.settings import RunSettings
from kipper.launch.coordinator import coordinate, load_experiment
from kipper.launch.inprocess import inprocess_links
from kipper.launch.link.joining import workers_joining
from kipper.launch.link.worker_process import serve_worker, worker_command, worker_settings
from kipper.launch.processes.process import die_with_parent, forget_proxies, keep_freed_memory
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import local_command, run_all
from kipper.launch.reverb_snapshots import ReverbSink, ReverbSource, scored_step_of
from kipper.server.evaluation import score
from kipper.server.measures import Score
from kipper.server.session import Session, open_kernel
from kipper.server.snapshots import BestKeeper, SnapshotSink
from kipper.server.workdir import Workdir

_POLL_SECONDS = 0.2


def enter_node(settings: RunSettings, own_process: bool) -> None:
    """The first act of every node."""
    forget_proxies()
    logs.now_about(run=settings.execution.run_name)
    if own_process:
        die_with_parent()
        # A terminal's Ctrl-C reaches every process; what follows from it, the launcher decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        keep_freed_memory()
        logs.start(settings.execution.log_format)


def run_worker_node(
    settings: RunSettings, index: int, registration: lp.Address, own_process: bool
) -> None:
    """A worker until the run is over: a process that is restarted when it dies, or a thread.

    Raises:
        GaveUp: the process died too often; that ends the program.
    """
    enter_node(settings, own_process)
    worker = dataclasses.replace(
        worker_settings(settings, index, registration.resolve()),
        advertise_host="localhost",
        threads=settings.execution.threads_per_worker,
        chaos=settings.execution.chaos if own_process else None,
    )
    logs.now_about(worker=worker.name)
    if not own_process:
        serve_worker(worker, stop_with_program())
        return
    stop = StopRequest()
    with stop.asked_by_signals(signals=(signal.SIGTERM,)):
        try:
            run_all([local_command(f"Worker {worker.name}", worker_command(worker))], stop)
        except KipperError as error:
            write_text(Workdir(settings.execution.workdir).failure, str(error))
            raise


def stop_with_program(*parents: StopRequest) -> StopRequest:
    """A request that follows `parents`, and is urgent once Launchpad stops the program.

    Call this in the node's own thread.
    """
    return StopRequest(*parents, at_once=lp.stop_event().is_set)


class EvaluatorNode:
    """Scores the newest snapshot on validation images and keeps the best.

    Its public methods can be called over Courier.
    """

    def __init__(self, settings: RunSettings, snapshots: lp.Address, own_process: bool):
        enter_node(settings, own_process)
        self._settings = settings
        self._snapshots = snapshots
        self._scored_step = -1

    def scored_step(self) -> int:
        """The step of the snapshot scored last; -1 before the first."""
        return self._scored_step

    def run(self) -> None:
        """Looks for new snapshots until the program stops."""
        stop = lp.stop_event()
        logs.now_about(run=self._settings.execution.run_name, node="evaluator")
        settings, validation = self._settings, load_experiment(self._settings).validation
        row_sets = {validation.key: validation.images}
        pool, kernel = open_kernel(
            settings, validation.images.shape[1:], inprocess_links(1, row_sets), row_sets
        )

        def validation_score(images: np.ndarray, labels: np.ndarray) -> Score:
            kernel.set_support(images)
            return score(kernel, labels, settings.compute.ridge, validation.key, validation.labels)

        keeper = BestKeeper(Workdir(settings.execution.workdir), validation_score)
        source = ReverbSource(self._snapshots.resolve())
        while not stop.wait(_POLL_SECONDS):
            try:
                snapshot = source.newest(timeout_seconds=5)
            except RuntimeError as error:
                logging.info("No snapshots yet: %s", error)
                continue
            if snapshot is not None:
                keeper.put(snapshot)
                self._scored_step = snapshot.step
        pool.close()


def run_coordinator(
    settings: RunSettings,
    registration: lp.Address,
    snapshots: lp.Address | None,
    evaluator: lp.Address | None,
    own_process: bool,
    stop: StopRequest,
) -> None:
    """Runs KIP or LS with the workers that join; the program is over when it returns.

    How the run ended is in status.json: Launchpad has no exit status of its own to carry it.

    Args:
        settings: of the run.
        registration: where workers join.
        snapshots: of the Reverb table, if there is one.
        evaluator: of the node that looks at snapshots, if there is one.
        own_process: whether signals to this process ask it to stop; else who asks holds `stop`.
        stop: whether to stop after the step that is under way, or at once.
    """
    enter_node(settings, own_process)
    if not own_process:
        stop = stop_with_program(stop)
    try:
        with stop.asked_by_signals(
            signals=(signal.SIGTERM,)
        ):  # where the process has no other thread
            experiment = load_experiment(settings)
            port = int(registration.resolve().rpartition(":")[2])
            coordinate(
                settings,
                experiment,
                links=(),
                make_sink=_make_sink(snapshots, evaluator, stop),
                stop=stop,
                joining=workers_joining(settings.execution, port),
            )
    except KipperError as error:
        logging.error("%s", error)
    except Exception:
        logging.exception("The coordinator failed.")


def _make_sink(
    snapshots: lp.Address | None, evaluator: lp.Address | None, stop: StopRequest
) -> Callable[[Session], SnapshotSink] | None:
    if snapshots is None or evaluator is None:
        return None
    table_address, scored_step = snapshots.resolve(), scored_step_of(evaluator.resolve())
    return lambda _session: ReverbSink(table_address, scored_step, stop)
