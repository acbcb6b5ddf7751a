"""The functions that run in the nodes of the Launchpad program.

Addresses are known only once a node runs, so nodes take Launchpad's `Address` values.
`own_process` says whether a node has its own process (local_mp) or shares one (local_mt).
"""

import dataclasses
import functools
import signal

import launchpad as lp
from absl import logging

import kipper.common.whole_jax  # noqa: F401 (first: Launchpad's processes begin here)
from kipper.common import logs
from kipper.common.errors import KipperError
from kipper.common.files import Dispensable, write_text
from kipper.common.settings import RunSettings
from kipper.launch.coordinator import best_keeper, coordinate, load_experiment
from kipper.launch.inprocess import inprocess_links
from kipper.launch.link.joining import workers_joining
from kipper.launch.link.worker_process import serve_worker, worker_command, worker_settings
from kipper.launch.processes.process import die_with_parent, forget_proxies, keep_freed_memory
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import local_command, run_all
from kipper.launch.reverb_snapshots import ReverbSink, ReverbSource, scored_of
from kipper.server.session import open_kernel
from kipper.server.workdir import Workdir

_POLL_SECONDS = 0.2


def enter_node(settings: RunSettings, own_process: bool) -> None:
    """Sets a node up; every node calls this first."""
    forget_proxies()
    logs.now_about(run=settings.execution.run_name)
    if own_process:
        die_with_parent()
        # A terminal's Ctrl-C and its end reach every process, but the launcher decides what to do.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        keep_freed_memory()
        logs.start(settings.execution.log_format)


def run_worker_node(
    settings: RunSettings, index: int, registration: lp.Address, own_process: bool
) -> None:
    """Runs a worker until the run is over: a supervised process, or a thread.

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
            failure = Workdir(settings.execution.workdir).failure
            with Dispensable(failure).attempt():
                write_text(failure, str(error))
            raise


def stop_with_program(*parents: StopRequest) -> StopRequest:
    """A request that follows `parents`, and is urgent once Launchpad stops the program.

    Call this in the node's own thread.
    """
    return StopRequest(*parents, at_once=lp.stop_event().is_set)


class EvaluatorNode:
    """Scores the newest snapshot on validation images, and keeps the best.

    Public methods can be called over Courier.
    """

    def __init__(self, settings: RunSettings, snapshots: lp.Address, own_process: bool):
        enter_node(settings, own_process)
        self._settings = settings
        self._snapshots = snapshots
        self._scored = 0, -1

    def scored(self) -> tuple[int, int]:
        """How often the run had gone back at the snapshot scored last, and its step, or -1."""
        return self._scored

    def run(self) -> None:
        """Scores new snapshots until the program stops."""
        stop = lp.stop_event()
        logs.now_about(run=self._settings.execution.run_name, node="evaluator")
        settings, validation = self._settings, load_experiment(self._settings).validation
        row_sets = {validation.key: validation.images}
        pool, kernel = open_kernel(
            settings, validation.images.shape[1:], inprocess_links(1, row_sets), row_sets
        )

        keeper = best_keeper(settings, kernel, validation)
        source = ReverbSource(self._snapshots.resolve())
        while not stop.wait(_POLL_SECONDS):
            try:
                snapshot = source.newest(timeout_seconds=5)
            except RuntimeError as error:
                logging.info("No snapshots yet: %s", error)
                continue
            if snapshot is not None and len(snapshot.gone_back) >= self._scored[0]:
                if missed := snapshot.gone_back[self._scored[0] :]:
                    keeper.go_back(min(missed))
                keeper.put(snapshot)
                self._scored = len(snapshot.gone_back), snapshot.step
        pool.close()


def run_coordinator(
    settings: RunSettings,
    registration: lp.Address,
    snapshots: lp.Address | None,
    evaluator: lp.Address | None,
    own_process: bool,
    stop: StopRequest,
) -> None:
    """Runs the algorithm with the workers that join; its return ends the program.

    status.json says how the run ended, because Launchpad passes on no exit status.

    Args:
        settings: the settings of the run.
        registration: where workers join.
        snapshots: the address of the Reverb table, if there is one.
        evaluator: the address of the node that scores snapshots, if there is one.
        own_process: whether signals to this process ask it to stop.
        stop: asks it to stop otherwise.
    """
    enter_node(settings, own_process)
    if not own_process:
        stop = stop_with_program(stop)
    try:
        with stop.asked_by_signals(signals=(signal.SIGTERM,)):
            experiment = load_experiment(settings)
            port = int(registration.resolve().rpartition(":")[2])
            make_sink = None
            if snapshots is not None and evaluator is not None:
                scored = scored_of(evaluator.resolve())
                make_sink = functools.partial(ReverbSink, snapshots.resolve(), scored, stop)
            coordinate(
                settings,
                experiment,
                links=(),
                make_sink=make_sink,
                stop=stop,
                joining=workers_joining(settings.execution, port),
            )
    except KipperError as error:
        logging.error("%s", error)
    except Exception:
        logging.exception("The coordinator failed.")
