"""The coordinator, whatever its workers are reached by."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from absl import logging

from kipper.common.datasets import Dataset, dataset_hash, load_dataset
from kipper.common.settings import RunSettings
from kipper.launch.inprocess import inprocess_links
from kipper.launch.link.chaos import with_faults
from kipper.launch.link.joining import check_joining, workers_joining
from kipper.launch.link.known_block import known_block
from kipper.launch.page.listening import check_dashboard
from kipper.launch.page.live import shown_live
from kipper.launch.processes.stopping import STOPPING, StopRequest
from kipper.launch.processes.terminal import tell_terminal
from kipper.server.algorithms import algorithm_of
from kipper.server.evaluation import score
from kipper.server.experiment import Experiment, choose_rows, prepare
from kipper.server.measures import Score
from kipper.server.pool import Pool
from kipper.server.protocol import WorkerLink
from kipper.server.records import RunResult
from kipper.server.session import Session, open_session
from kipper.server.snapshots import BestKeeper, SnapshotSink
from kipper.server.workdir import Workdir
from kipper.workers.choice import check_engine
from kipper.workers.network_trial import try_network


def check_run(settings: RunSettings) -> Dataset:
    """Refuses all that can be refused before anything starts, and makes the workdir ready.

    Raises:
        UserError: a setting, a file or the workdir cannot be used.
    """
    dataset, data_hash = check_settings(settings)
    Workdir(settings.execution.workdir).prepare(settings, data_hash)
    return dataset


def check_settings(settings: RunSettings) -> tuple[Dataset, str]:
    """The same without a look at the workdir; returns the data set's hash as well.

    Raises:
        UserError: a setting or a file cannot be used.
    """
    settings.check()
    compute, execution = settings.compute, settings.execution
    for spec in compute.kernel_specs:
        check_engine(compute.engine, spec)
    check_joining(execution)
    check_dashboard(execution)
    dataset = load_dataset(compute.dataset, execution.data_dir)
    rows, data_hash = choose_rows(compute, dataset), dataset_hash(dataset)
    for spec in compute.kernel_specs:
        try_network(spec, dataset.x_train.shape[1:])
    algorithm_of(settings.compute).check_data(rows, data_hash)
    return dataset, data_hash


def load_experiment(settings: RunSettings) -> Experiment:
    """The experiment of settings that `check_run` has passed."""
    dataset = load_dataset(settings.compute.dataset, settings.execution.data_dir)
    return prepare(settings.compute, dataset)


def coordinate(
    settings: RunSettings,
    experiment: Experiment,
    links: Sequence[WorkerLink],
    make_sink: Callable[[Session], SnapshotSink] | None = None,
    stop: StopRequest | None = None,
    joining: Callable[[Pool], AbstractContextManager[object]] | None = None,
) -> RunResult:
    """Runs the algorithm that the settings are for, and writes its report.

    Args:
        settings: of the run.
        experiment: what it works on.
        links: the workers that are there from the start; they are closed at the end.
        make_sink: where KIP's evaluated snapshots go; None: they are scored here, if images were
            held out for it.
        stop: makes the run end with `Interrupted`: after the step, or the blocks of a few targets,
            that are under way, or at once if urgent.
        joining: entered while the run lasts; has workers join the pool, so that a run without any
            waits for them.

    Raises:
        KipperError: the run could not be finished; see `Algorithm.run`.
    """
    workdir = Workdir(settings.execution.workdir)
    image_shape = experiment.support.shape[1:]
    score_here = make_sink is None and len(experiment.validation.labels) > 0
    make_sink = _local_keeper if score_here else make_sink
    stop = stop or StopRequest()
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(shown_live(settings, experiment))
        session = stack.enter_context(
            open_session(
                settings,
                experiment,
                workdir,
                links,
                score_here,
                should_stop=stop.is_urgent,
                should_finish=stop.is_asked,
                known=known_block(
                    settings.compute.kernel_spec, settings.compute.engine, image_shape
                )
                if joining
                else None,
                elastic=joining is not None,
                watch=watch,
            )
        )
        if joining is not None:
            stack.enter_context(joining(session.pool))
        sink = make_sink(session) if make_sink is not None else None
        result = session.algorithm.run(session, sink)
    _report(workdir)
    return result


def _report(workdir: Workdir) -> None:
    """Draws and tells what the run left in its folder."""
    # Here, because matplotlib takes a second to import, which a run need not begin with.
    from kipper.server.report.run_files import read_run
    from kipper.server.report.writing import write_report

    try:
        write_report(read_run(workdir.path))
    except Exception as error:
        # Of whatever kind: the result is there, and is not to be lost for a report of it.
        logging.warning(
            "%s could not be written: %r; kipper report %s tries again.",
            workdir.report,
            error,
            workdir.path,
        )


def run_inprocess(settings: RunSettings) -> RunResult:
    """A run against worker threads of this process, without Launchpad.

    With `port` set, workers of other processes and hosts join them. The first Ctrl-C or SIGTERM
    ends the run after the step that is under way, the second at once.
    """
    experiment = prepare(settings.compute, check_run(settings))
    row_sets = experiment.row_sets(with_validation=True)
    execution = settings.execution
    num_workers, port = execution.num_workers, execution.port
    links = [
        with_faults(link, execution.faults, num_workers)
        for link in inprocess_links(num_workers, row_sets, execution.threads_per_worker)
    ]
    joining = workers_joining(execution, port) if port is not None else None
    stop = StopRequest()
    with stop.asked_by_signals(on_signal=_on_signal):
        return coordinate(settings, experiment, links, stop=stop, joining=joining)


def _on_signal(times: int) -> None:
    if times > 1:
        raise KeyboardInterrupt
    tell_terminal(STOPPING)


def _local_keeper(session: Session) -> BestKeeper:
    """Scores snapshots on the coordinator's own workers."""

    def validation_score(images: np.ndarray, labels: np.ndarray) -> Score:
        session.kernel.set_support(images)
        validation, ridge = session.experiment.validation, session.settings.compute.ridge
        return score(session.kernel, labels, ridge, validation.key, validation.labels)

    return BestKeeper(session.workdir, validation_score)
