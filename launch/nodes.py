"""What runs in each node of the Launchpad program: thin shells around the pure parts.

Addresses are known only once a node runs, so nodes take Launchpad's `Address` values.
`own_process` says whether a node has a process to itself (local_mp) or shares one (local_mt).
"""

import threading
from collections.abc import Callable

import launchpad as lp
import numpy as np
from absl import logging

from kipper.common.errors import KipperError
from kipper.common.settings import RunSettings
from kipper.launch.coordinator import coordinate, load_experiment
from kipper.launch.courier_link import CourierLink, connect, scored_step_of
from kipper.launch.inprocess import inprocess_links
from kipper.launch.process import die_with_parent, forget_proxies, keep_freed_memory
from kipper.launch.reverb_snapshots import ReverbSink, ReverbSource
from kipper.server.evaluation import score
from kipper.server.session import Session, open_kernel
from kipper.server.snapshots import BestKeeper, SnapshotSink
from kipper.server.workdir import Workdir
from kipper.workers.courier_service import WorkerService

_START_SECONDS = 300.0
_POLL_SECONDS = 0.2


def enter_node(own_process: bool) -> None:
    """The first act of every node."""
    forget_proxies()
    if own_process:
        die_with_parent()
        keep_freed_memory()
        logging.set_verbosity(logging.INFO)


class WorkerNode(WorkerService):
    """A worker; serves until the program stops."""

    def __init__(self, own_process: bool):
        enter_node(own_process)
        super().__init__()


class EvaluatorNode:
    """Scores the newest snapshot on validation images and keeps the best.

    Its public methods can be called over Courier.
    """

    def __init__(self, settings: RunSettings, snapshots: lp.Address, own_process: bool):
        enter_node(own_process)
        self._settings = settings
        self._snapshots = snapshots
        self._scored_step = -1

    def scored_step(self) -> int:
        """The step of the snapshot scored last; -1 before the first."""
        return self._scored_step

    def run(self) -> None:
        """Looks for new snapshots until the program stops."""
        stop = lp.stop_event()
        settings, validation = self._settings, load_experiment(self._settings).validation
        row_sets = {validation.key: validation.images}
        pool, kernel = open_kernel(
            settings, validation.images.shape[1:], inprocess_links(1, row_sets), row_sets
        )

        def accuracy(images: np.ndarray, labels: np.ndarray) -> float:
            kernel.set_support(images)
            return score(kernel, labels, settings.ridge, validation.key, validation.labels).accuracy

        keeper = BestKeeper(Workdir(settings.workdir), accuracy)
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
    workers: list[lp.Address],
    snapshots: lp.Address | None,
    evaluator: lp.Address | None,
    own_process: bool,
) -> None:
    """Waits for the workers, runs KIP or LS, and stops the program.

    How the run ended is in status.json: Launchpad has no exit status of its own to carry it.
    """
    enter_node(own_process)
    stop = lp.stop_event()
    try:
        experiment = load_experiment(settings)
        links = _connect_all(workers, stop)
        make_sink = _make_sink(snapshots, evaluator, stop)
        coordinate(settings, experiment, links, make_sink, stop.is_set)
    except KipperError as error:
        logging.error("%s", error)
    except Exception:
        logging.exception("The coordinator failed.")
    finally:
        lp.stop()


def _connect_all(workers: list[lp.Address], stop: threading.Event) -> list[CourierLink]:
    return [
        connect(f"worker-{i}", address.resolve(), _START_SECONDS, stop.is_set)
        for i, address in enumerate(workers)
    ]


def _make_sink(
    snapshots: lp.Address | None, evaluator: lp.Address | None, stop: threading.Event
) -> Callable[[Session], SnapshotSink] | None:
    if snapshots is None or evaluator is None:
        return None
    table_address, scored_step = snapshots.resolve(), scored_step_of(evaluator.resolve())
    return lambda _session: ReverbSink(table_address, scored_step, stop)
