"""The coordinator of a run, independent of where its workers are."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
from absl import logging

from kipper.common.datasets import Dataset, dataset_hash, load_dataset
from kipper.common.engines import engines_for
from kipper.common.errors import Interrupted, KipperError
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
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.evaluation import score
from kipper.server.experiment import Experiment, Split, choose_rows, prepare
from kipper.server.measures import Score
from kipper.server.pool import Pool
from kipper.server.protocol import WorkerLink
from kipper.server.records import Onlooker, RunResult
from kipper.server.session import open_session
from kipper.server.snapshots import BestKeeper, SnapshotSink
from kipper.server.workdir import Workdir
from kipper.workers.choice import check_engine
from kipper.workers.network_trial import try_network


@contextlib.contextmanager
def claimed_run(settings: RunSettings) -> Iterator[Dataset]:
    """Checks as `check_run` does, and reserves the workdir for this run while the block runs.

    Raises:
        UserError: see `check_run`; or another run is in the workdir, which is then not touched.
    """
    settings.check()
    workdir = Workdir(settings.execution.workdir)
    workdir.check_free()  # before the seconds that the other checks take
    dataset, data_hash = check_settings(settings)
    with workdir.claimed():
        workdir.prepare(settings, data_hash)
        yield dataset


def check_run(settings: RunSettings) -> Dataset:
    """Checks all that can be checked before anything starts, and prepares the workdir.

    Raises:
        UserError: a setting, a file or the workdir cannot be used.
    """
    dataset, data_hash = check_settings(settings)
    Workdir(settings.execution.workdir).prepare(settings, data_hash)
    return dataset


def check_settings(settings: RunSettings) -> tuple[Dataset, str]:
    """Checks settings and data without the workdir; returns the data set and its hash.

    Raises:
        UserError: a setting or a file cannot be used.
    """
    settings.check()
    compute, execution = settings.compute, settings.execution
    for spec in compute.kernel_specs:
        if execution.has_workers_here:
            check_engine(compute.engine, spec)
        else:
            engines_for(compute.engine, spec.architecture)
    check_joining(execution)
    check_dashboard(execution)
    dataset = load_dataset(compute.dataset, execution.data_dir)
    rows, data_hash = choose_rows(compute, dataset), dataset_hash(dataset)
    for spec in compute.kernel_specs:
        try_network(spec, dataset.x_train.shape[1:])
    algorithm_of(settings.compute).check_data(rows, data_hash)
    return dataset, data_hash


def load_experiment(settings: RunSettings) -> Experiment:
    """The experiment of settings that passed `check_run`."""
    dataset = load_dataset(settings.compute.dataset, settings.execution.data_dir)
    return prepare(settings.compute, dataset)


def coordinate(
    settings: RunSettings,
    experiment: Experiment,
    links: Sequence[WorkerLink],
    make_sink: Callable[[], SnapshotSink] | None = None,
    stop: StopRequest | None = None,
    joining: Callable[[Pool], AbstractContextManager[object]] | None = None,
    onlooker: Onlooker | None = None,
) -> RunResult:
    """Runs the algorithm of the settings, and writes the report.

    Args:
        settings: the settings of the run.
        experiment: the data of the run.
        links: the initial workers, which are closed at the end.
        make_sink: makes the sink of evaluated snapshots, once workers are connected. None: they are
            scored here, if images were held out.
        stop: ends the run with `Interrupted`, after the work in progress or, if urgent, at once.
        joining: entered while the run lasts: lets workers join the pool. A run without workers then
            waits for them.
        onlooker: sees the evaluations.

    Raises:
        KipperError: the run could not be finished; see `Algorithm.run`.
    """
    workdir = Workdir(settings.execution.workdir)
    image_shape = experiment.support.shape[1:]
    # A run that its own scores end scores them itself, so that its end is the same however it runs.
    by_scores = algorithm_of(settings.compute).ends_by_scores
    score_here = (make_sink is None or by_scores) and len(experiment.validation.labels) > 0
    stop = stop or StopRequest()
    with contextlib.ExitStack() as stack:
        stack.push(functools.partial(_report_what_there_is, workdir, stop))
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
                onlooker=onlooker,
            )
        )
        if joining is not None:
            stack.enter_context(joining(session.pool))
        if score_here:
            make_sink = functools.partial(
                best_keeper, settings, session.kernel, experiment.validation
            )
        result = session.algorithm.run(session, make_sink() if make_sink else None)
    _report(workdir)
    return result


def _report_what_there_is(
    workdir: Workdir, stop: StopRequest, kind: type[BaseException] | None, *_: object
) -> None:
    """Writes the report of an interrupted run, unless there is no time for it."""
    if kind is not None and issubclass(kind, Interrupted) and not stop.is_urgent():
        _report(workdir)


def _report(workdir: Workdir) -> None:
    """Writes the report of the run."""
    # Imported here because matplotlib takes a second to import.
    from kipper.server.report.run_files import read_run
    from kipper.server.report.writing import write_report

    try:
        write_report(read_run(workdir.path))
    except Exception as error:
        # No error of the report may lose the result, which exists.
        logging.warning(
            "%s could not be written: %s; kipper report %s tries again.",
            workdir.report,
            error if isinstance(error, KipperError) else repr(error),
            workdir.path,
        )


def run_inprocess(
    settings: RunSettings, stop: StopRequest | None = None, onlooker: Onlooker | None = None
) -> RunResult:
    """Runs with worker threads of this process, without Launchpad; arguments as of `coordinate`.

    With `port` set, workers of other processes and hosts may join. Signals as `coordinate_here`.
    """
    with claimed_run(settings) as dataset:
        experiment = prepare(settings.compute, dataset)
        row_sets = experiment.row_sets(with_validation=True)
        execution = settings.execution
        num_workers, port = execution.fixed_workers, execution.port
        links = [
            with_faults(link, execution.faults, num_workers)
            for link in inprocess_links(num_workers, row_sets, execution.threads_per_worker)
        ]
        joining = workers_joining(execution, port) if port is not None else None
        return coordinate_here(settings, experiment, links, joining, stop=stop, onlooker=onlooker)


def coordinate_here(
    settings: RunSettings,
    experiment: Experiment,
    links: Sequence[WorkerLink],
    joining: Callable[[Pool], AbstractContextManager[object]] | None = None,
    make_sink: Callable[[StopRequest], SnapshotSink] | None = None,
    stop: StopRequest | None = None,
    onlooker: Onlooker | None = None,
) -> RunResult:
    """Like `coordinate`, in the process of the command, whose signals ask it to stop.

    The first Ctrl-C or SIGTERM ends the run after the step in progress, the second at once.
    """
    stop = stop or StopRequest()
    with stop.asked_by_signals(on_signal=_on_signal):
        sink = functools.partial(make_sink, stop) if make_sink is not None else None
        return coordinate(settings, experiment, links, sink, stop, joining, onlooker)


def _on_signal(times: int) -> None:
    if times > 1:
        raise KeyboardInterrupt
    tell_terminal(STOPPING)


def best_keeper(settings: RunSettings, kernel: DistributedKernel, validation: Split) -> BestKeeper:
    """Scores snapshots on the validation images by `kernel`, and keeps the best."""

    def validation_score(images: np.ndarray, labels: np.ndarray) -> Score:
        kernel.set_support(images)
        return score(kernel, labels, settings.compute.ridge, validation.key, validation.labels)

    return BestKeeper(Workdir(settings.execution.workdir), validation_score)
