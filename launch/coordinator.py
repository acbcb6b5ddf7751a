"""The coordinator, whatever its workers are reached by."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kipper.common.datasets import Dataset, dataset_hash, load_dataset
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.inprocess import inprocess_links
from kipper.server.evaluation import score
from kipper.server.experiment import Experiment, choose_rows, prepare
from kipper.server.kip_run import run_kip
from kipper.server.label_run import run_label_solve
from kipper.server.protocol import WorkerLink
from kipper.server.session import Session, open_session
from kipper.server.snapshots import BestKeeper, SnapshotSink
from kipper.server.workdir import Workdir
from kipper.workers.choice import check_engine


def check_run(settings: RunSettings) -> Dataset:
    """Refuses all that can be refused before anything starts, and makes the workdir ready.

    Raises:
        UserError: a setting, a file or the workdir cannot be used.
    """
    settings.check()
    check_engine(settings.engine, settings.kernel_spec)
    dataset = load_dataset(settings.dataset, settings.data_dir)
    choose_rows(settings, dataset)
    Workdir(settings.workdir).prepare(settings, dataset_hash(dataset))
    return dataset


def load_experiment(settings: RunSettings) -> Experiment:
    """The experiment of settings that `check_run` has passed."""
    return prepare(settings, load_dataset(settings.dataset, settings.data_dir))


def coordinate(
    settings: RunSettings,
    experiment: Experiment,
    links: Sequence[WorkerLink],
    make_sink: Callable[[Session], SnapshotSink] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Runs KIP or LS, as the settings' class says; returns what result.json holds.

    Args:
        settings: of the run.
        experiment: what it works on.
        links: the workers; they are closed at the end.
        make_sink: where KIP's evaluated snapshots go; None: they are scored here, if images were
            held out for it.
        should_stop: asked between blocks; true makes the run end with `Interrupted`.

    Raises:
        KipperError: the run could not be finished; see `run_kip`, `run_label_solve`.
    """
    workdir = Workdir(settings.workdir)
    is_kip = isinstance(settings, DistillSettings)
    score_here = is_kip and make_sink is None and len(experiment.validation.labels) > 0
    with open_session(settings, experiment, workdir, links, score_here, should_stop) as session:
        if not is_kip:
            return run_label_solve(session)
        if score_here:
            make_sink = _local_keeper
        return run_kip(session, make_sink(session) if make_sink is not None else None)


def run_inprocess(settings: RunSettings) -> dict[str, Any]:
    """A run against worker threads of this process, without Launchpad."""
    experiment = prepare(settings, check_run(settings))
    row_sets = experiment.row_sets(with_validation=True)
    links = inprocess_links(settings.num_workers, row_sets, settings.threads_per_worker)
    return coordinate(settings, experiment, links)


def _local_keeper(session: Session) -> BestKeeper:
    """Scores snapshots on the coordinator's own workers."""

    def validation_accuracy(images: np.ndarray, labels: np.ndarray) -> float:
        session.kernel.set_support(images)
        classes = session.experiment.validation.labels
        ridge = session.settings.ridge
        return score(
            session.kernel, labels, ridge, session.experiment.validation.key, classes
        ).accuracy

    return BestKeeper(session.workdir, validation_accuracy)
