"""The part that all runs share: workers, status, logs, and the final files."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from kipper import __version__
from kipper.common import logs, messages
from kipper.common.errors import (
    Interrupted,
    KipperError,
    TemporaryError,
    UserError,
    WriteError,
)
from kipper.common.files import set_aside
from kipper.common.sealed import write_object
from kipper.common.settings import ComputeSettings, RunSettings
from kipper.server.algorithms import algorithm_of
from kipper.server.algorithms.algorithm import Algorithm
from kipper.server.checkpoint import (
    Checkpoint,
    ResumePoints,
    is_named,
    numerics_before,
    steps_in,
)
from kipper.server.confirmations import Confirmations
from kipper.server.distilled_set import (
    MadeSet,
    Recipe,
    load_distilled,
    load_recipe,
    save_distilled,
    save_recipe,
    set_key,
)
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.event_files import EventFiles
from kipper.server.experiment import Augmenting, Experiment
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import Score
from kipper.server.pool import Pool
from kipper.server.pool_options import PoolOptions
from kipper.server.pool_worker import KnownBlock
from kipper.server.protocol import WorkerLink
from kipper.server.records import Account, Counters, Evaluation, Onlooker, RunResult
from kipper.server.report.keeping import keep_beginning, keep_end
from kipper.server.run_numerics import (
    Admission,
    RunNumerics,
    check_coordinator,
    own_arithmetic,
)
from kipper.server.scheduler.rules import Policy
from kipper.server.showing import Showing
from kipper.server.snapshots import best_before, mend_best
from kipper.server.status import StatusWriter
from kipper.server.tiling import Tiling, tiling_for
from kipper.server.watch.pictures import picture, pixels_of
from kipper.server.watch.watch import Watch
from kipper.server.workdir import Workdir

# How long a run that no worker can join waits for one that is still being made ready.
_PATIENCE_SECONDS = 10.0

# Maximum number of images in an event file, and pixels of their side. Writing these in colour takes
# a fifth of a second.
_EVENT_PICTURE = 100, 32


@dataclasses.dataclass
class Session:
    """The state of a coordinator during one run.

    Attributes:
        before: counters of the coordinators that this one resumes; None until it has begun.
        should_finish: whether the user asked to stop after the step that is under way.
    """

    settings: RunSettings
    algorithm: Algorithm
    experiment: Experiment
    workdir: Workdir
    pool: Pool
    kernel: DistributedKernel
    status: StatusWriter
    showing: Showing
    event_files: EventFiles
    admission: Admission
    should_finish: Callable[[], bool]
    onlooker: Onlooker | None = None
    started: float = dataclasses.field(default_factory=time.monotonic)
    before: Counters | None = None

    def counters(self) -> Counters:
        """The counters of the whole run, resumptions included."""
        counts, before = self.pool.counts, self.before or Counters()
        return Counters(
            seconds=round(before.seconds + time.monotonic() - self.started, 3),
            kernel_pairs=before.kernel_pairs + counts.kernel_pairs,
            vjp_pairs=before.vjp_pairs + counts.vjp_pairs,
        )

    def account(self) -> Account:
        """`counters`, with the rate, the engine, and the traffic of this coordinator."""
        counters, counts, phases = self.counters(), self.pool.counts, self.pool.phases
        return Account(
            **vars(counters),
            pairs_per_second=round(counters.kernel_pairs / max(counters.seconds, 1e-3)),
            engine=next(iter(self.pool.engines.values()), self.settings.compute.engine),
            bytes_sent=counts.bytes_sent,
            bytes_received=counts.bytes_received,
            phase_seconds={name: round(phase.seconds, 3) for name, phase in phases.items()},
            idle_share={name: round(phase.idle_share, 4) for name, phase in phases.items()},
        )

    def resume_points(self) -> ResumePoints[Any]:
        """The run's checkpoints, as this coordinator finds and writes them."""
        config = self.workdir.read_config()
        return ResumePoints(
            self.workdir.checkpoints,
            config.record(),
            self.counters,
            lambda: self.pool.confirmations.record(),
            lambda: self.admission.numerics.record(),
        )

    def begin_at(self, found: Checkpoint[Any] | None) -> None:
        """Begins at a checkpoint, or at the first state; also after the run went back to it."""
        liars = self.pool.confirmations.liars
        confirmations = Confirmations()
        if found is not None:
            confirmations = Confirmations.read(found.confirmations, found.step)
        confirmations.liars |= liars
        self.status.update(liars=confirmations.liars or None)
        self.pool.start_over(confirmations)
        if self.before is None:  # later on, the pool's counts include work that was discarded
            self.before = Counters() if found is None else found.counters

    def settled(self) -> dict[str, Any]:
        """The fields of the result about confirmation; waits until no dispute is open.

        Raises:
            LiesUsed: numbers that led to the result turned out to be wrong.
            WorkerError: no worker can decide between answers that differ.
        """
        self.pool.settle()
        found = self.pool.confirmations
        fields: dict[str, Any] = {"liars": found.liars} if found.liars else {}
        if found.liars or self.settings.execution.verify_fraction > 0:
            fields |= {"used_blocks": found.num_used, "confirmed_blocks": found.num_confirmed}
        return fields

    def evaluated(
        self,
        evaluation: Evaluation,
        support: LearnedSet,
        more: Mapping[str, float] | None = None,
    ) -> None:
        """Records an evaluation, and shows its support set.

        Args:
            evaluation: the record for metrics.jsonl.
            more: numbers for event files only, by tag.
        """
        step = evaluation.step
        self.workdir.append_record(self.workdir.metrics, evaluation.record())
        shown = self.showing.evaluated(step, support.images, support.labels)
        is_shown = is_named(step) or step == self.algorithm.steps
        to_pixels = pixels_of(self.experiment.preprocessing, self.experiment.pixel_range)
        self.event_files.evaluated(
            evaluation,
            {"speed/pairs_per_second": self.account().pairs_per_second or 0, **(more or {})},
            (lambda: picture(shown, to_pixels, *_EVENT_PICTURE)) if is_shown else None,
        )
        if self.onlooker is not None:
            self.onlooker(evaluation, support)

    def write_results(self, support: LearnedSet, result: RunResult) -> None:
        """Writes the distilled set, its recipe, result.json, and what only the report needs."""
        step = None if self.algorithm.steps is None else result.steps
        last = MadeSet(set_key(*support), step, result.test)
        self._save_set(support, self._with_best(last))
        write_object(self.workdir.result, result.record())
        keep_end(self.workdir, self.experiment, support.images, self.pool.devices)

    def write_unfinished(self, step: int, support: LearnedSet) -> None:
        """Writes the set that an interrupted run has made, unless it was finished before."""
        if self.workdir.result.exists():
            return
        known = {each.step: each.test for each in self.workdir.evaluations()}
        made = MadeSet(set_key(*support), step, known.get(step))
        self._save_set(support, self._with_best(made))

    def best(self) -> tuple[int, Score | None] | None:
        """Step of best.npz and its test score, if that is known; None if there is no best.npz."""
        best = best_before(self.workdir.validations())
        if best is None or not self.workdir.best.exists():
            return None
        known = {each.step: each.test for each in self.workdir.evaluations()}
        return best.step, known.get(best.step)

    def _save_set(self, support: LearnedSet, sets: tuple[MadeSet, ...]) -> None:
        numerics = self.admission.numerics
        recipe = _recipe(self.settings, self.experiment, self.workdir, sets, numerics)
        save_recipe(self.workdir.preprocessing, recipe)
        save_distilled(self.workdir.distilled, support)

    def _with_best(self, last: MadeSet) -> tuple[MadeSet, ...]:
        found = self.best()
        if found is None:
            return (last,)
        best = MadeSet(set_key(*load_distilled(self.workdir.best)), *found)
        return (best, last)  # if both are the same set, readers take the last


@contextlib.contextmanager
def open_session(
    settings: RunSettings,
    experiment: Experiment,
    workdir: Workdir,
    links: Sequence[WorkerLink],
    score_validation: bool,
    should_stop: Callable[[], bool],
    should_finish: Callable[[], bool] = lambda: False,
    known: KnownBlock | None = None,
    elastic: bool = False,
    watch: Watch | None = None,
    onlooker: Onlooker | None = None,
) -> Iterator[Session]:
    """A session over `links`; closes them at the end and writes to status.json how the run ended.

    Args:
        workdir: already prepared.
        score_validation: whether workers hold the validation images too.
        should_stop: asked between blocks; once it is true the run raises `Interrupted`.
        should_finish: asked between steps, and while the run waits for workers; once it is true
            the run raises `Interrupted`.
        known: a block that checks workers before they get others.
        elastic: whether workers may join later; if so, the run waits while it has none.
        watch: for the live page.
        onlooker: sees the evaluations.

    Raises:
        UserError: another coordinator holds the workdir, or this one may not continue its run.
    """
    algorithm = algorithm_of(settings.compute)
    execution = settings.execution
    to_log = logs.to_file(workdir.logs / "run.log", execution.run_name, execution.log_format)
    with (
        workdir.locked(),
        to_log,
        _saying_what_is_left(workdir),
        contextlib.ExitStack() as until_the_pool,
    ):
        for link in links:
            until_the_pool.callback(link.close)
        admission = _admission(settings, workdir, elastic)
        workdir.mend()
        _mend_recipe(workdir)
        mend_best(workdir)
        showing = Showing(watch, algorithm, experiment, workdir)
        status = StatusWriter(workdir.status, showing.status_changed)
        address = watch.address if watch is not None else None
        status.update(now=True, state="running", steps=algorithm.steps or 0, dashboard=address)
        with _telling_how_it_ended(status, workdir):
            recipe = _recipe(settings, experiment, workdir, _earlier_sets(workdir))
            keep_beginning(workdir, experiment, recipe)

        def on_progress() -> None:
            counts = session.pool.counts
            if should_stop() or (should_finish() and counts.workers == 0):
                raise Interrupted()
            status.update()

        def fresh() -> dict[str, Any]:
            counts = session.pool.counts
            return {
                "blocks": counts.blocks,
                "workers": counts.workers,
                "set_aside": session.pool.set_aside or None,
                "account": session.account(),
                "numerics": admission.numerics.record(),
                "waits_for": admission.wanted if counts.workers == 0 else None,
            }

        policy = Policy(
            verify_fraction=settings.execution.verify_fraction,
            seed=settings.compute.seed,
            patience_seconds=math.inf if elastic else _PATIENCE_SECONDS,
        )
        pool, kernel = open_kernel(
            settings,
            experiment.support.shape[1:],
            links,
            experiment.row_sets(score_validation),
            on_progress,
            PoolOptions(
                policy,
                known,
                workdir.logs,
                workdir.bans,
                workdir.disputes,
                elastic,
                watch,
                admission,
            ),
            experiment.augmenting,
        )
        until_the_pool.pop_all()
        showing.pool = pool
        session = Session(
            settings=settings,
            algorithm=algorithm,
            experiment=experiment,
            workdir=workdir,
            pool=pool,
            kernel=kernel,
            status=status,
            showing=showing,
            event_files=EventFiles(workdir),
            admission=admission,
            should_finish=should_finish,
            onlooker=onlooker,
        )
        status.fresh = fresh
        try:
            with _telling_how_it_ended(status, workdir):
                with contextlib.closing(session.event_files):
                    yield session
                status.update(
                    now=True, state="finished", dashboard=None, events=pool.num_events_logged
                )
        finally:
            pool.close()


@contextlib.contextmanager
def _telling_how_it_ended(status: StatusWriter, workdir: Workdir) -> Iterator[None]:
    """Writes to status.json that the block was interrupted or failed."""
    try:
        with _saying_what_is_left(workdir):
            yield
    except (Interrupted, KeyboardInterrupt):
        status.update(now=True, state="interrupted", dashboard=None)
        raise
    except Exception as error:
        # To the log only: the exception informs the caller.
        logging.info("The run failed.", exc_info=True)
        message = str(error) if isinstance(error, KipperError) else repr(error)
        may_recover = True if isinstance(error, TemporaryError | MemoryError) else None
        status.update(
            now=True, state="failed", message=message, may_recover=may_recover, dashboard=None
        )
        raise


@contextlib.contextmanager
def _saying_what_is_left(workdir: Workdir) -> Iterator[None]:
    """Adds to the error of a failed write the checkpoint that the run can go on from."""
    try:
        yield
    except WriteError as error:
        steps = steps_in(workdir.checkpoints)
        left = f"Checkpoint {steps[-1]} is intact" if steps else "There was no checkpoint yet"
        raise TemporaryError(
            f"{error} {left}; once that is mended, the same command resumes the run."
        ) from error


def _admission(settings: RunSettings, workdir: Workdir, elastic: bool) -> Admission:
    """Which workers may compute for the run that is in the folder.

    Raises:
        UserError: this coordinator may not continue it.
    """
    execution, own = settings.execution, own_arithmetic()
    before = numerics_before(workdir.checkpoints)
    check_coordinator(before, own, execution.mixed_numerics, str(workdir.path))
    others_may_come = elastic and (execution.port is not None or execution.fixed_workers == 0)
    return Admission(before, own, execution.mixed_numerics, others_may_come)


def _recipe(
    settings: RunSettings,
    experiment: Experiment,
    workdir: Workdir,
    sets: tuple[MadeSet, ...],
    numerics: RunNumerics | None = None,
) -> Recipe:
    return Recipe(
        experiment.preprocessing,
        experiment.class_names,
        settings.record(),
        pixel_range=experiment.pixel_range,
        target_mean=experiment.target_mean,
        sets=sets,
        data_hash=workdir.read_config().data_hash,
        kipper_version=__version__,
        numerics=numerics,
    )


def _mend_recipe(workdir: Workdir) -> None:
    """Moves a recipe that cannot be read out of the way of a new one."""
    try:
        if workdir.preprocessing.exists():
            load_recipe(workdir.preprocessing)
    except UserError as error:
        logging.warning("%s It is now %s.", error, set_aside(workdir.preprocessing))


def _earlier_sets(workdir: Workdir) -> tuple[MadeSet, ...]:
    """The sets that this run wrote when it was finished with fewer steps."""
    if workdir.distilled.exists():
        with contextlib.suppress(UserError):
            return load_recipe(workdir.preprocessing).sets
    return ()


def open_kernel(
    settings: RunSettings,
    image_shape: tuple[int, ...],
    links: Sequence[WorkerLink],
    row_sets: Mapping[str, np.ndarray],
    on_progress: Callable[[], None] = lambda: None,
    options: PoolOptions | None = None,
    augmenting: Augmenting | None = None,
) -> tuple[Pool, DistributedKernel]:
    """The kernels of `settings` over workers, with columns of `row_sets`.

    The caller closes the pool. `image_shape` is (h, w, c). With `augmenting`, columns may be
    augmented rows of its images.
    """
    tiling = tiling_of(settings.compute, image_shape)
    pool = Pool(links, _configure(settings, augmenting), row_sets, on_progress, options)
    return pool, DistributedKernel(pool, tiling)


def tiling_of(settings: ComputeSettings, image_shape: tuple[int, ...]) -> Tiling:
    """The tiling of the matrices of a run over images of (h, w, c)."""
    height, width, channels = image_shape
    tilings = [
        tiling_for(
            spec,
            settings.engine,
            (height, width, channels),
            settings.block_support,
            settings.block_target,
        )
        for spec in settings.kernel_specs
    ]
    # One for all kernels, so that rows prepared for one kernel's blocks fit another's.
    fewest = [t.fewest_pairs for t in tilings if t.fewest_pairs is not None]
    return Tiling(
        min(t.support for t in tilings),
        min(t.target for t in tilings),
        max(fewest, default=None),
    )


def _configure(settings: RunSettings, augmenting: Augmenting | None) -> messages.Configure:
    arrays = augmenting.preprocessing.arrays() if augmenting is not None else {}
    whitening = augmenting.whitening if augmenting is not None else {}
    compute = settings.compute
    return messages.Configure(
        protocol_version=messages.PROTOCOL_VERSION,
        run=settings.execution.run_name,
        architectures=[spec.architecture.name for spec in compute.kernel_specs],
        kind=compute.kernel,
        dtype=compute.kernel_dtype,
        engine=compute.engine,
        threads=settings.execution.threads or 0,
        augment=augmenting.augment if augmenting is not None else "",
        seed=compute.seed,
        whitening=next(iter(whitening), ""),
        mean=arrays.get("mean", np.zeros(0)),
        std=arrays.get("std", np.zeros(0)),
    )
