"""`kipper distill --dry_run`, `kipper bench distill`: what a run would take, before it starts.

Pairs are counted. Times are measured: on workers of this process, by the run's own steps on some of
its target images, and by its own evaluation of some of its test images.
"""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kipper.common.settings import DistillSettings, EstimateSettings, RunSettings
from kipper.launch.coordinator import check_settings
from kipper.launch.display import duration
from kipper.launch.inprocess import inprocess_links
from kipper.launch.text_table import text_table
from kipper.server import kip, krr, label_solve, sampling
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.estimate import (
    Memory,
    Part,
    Sizes,
    checkpoint_bytes,
    memory_of,
    parts_of,
    support_pairs,
)
from kipper.server.evaluation import score_coefficients
from kipper.server.experiment import Experiment, Split, prepare
from kipper.server.initial_images import frozen_pixels
from kipper.server.kip_run import first_state, rows_of, targets_of
from kipper.server.optimiser import adam_of
from kipper.server.pool import Pool
from kipper.server.session import open_kernel, tiling_of
from kipper.server.tiling import Tiling, spans
from kipper.server.workdir import Workdir
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages
from kipper.workers.worker import MAX_RESIDUAL_BYTES, MAX_RESIDUAL_BYTES_PER_BLOCK

# For each thing that is measured.
_SECONDS = 5.0
_LEAST_REPETITIONS, _REPETITIONS = 8, 40
# Of a process before it holds anything: Python, JAX, and under Launchpad TensorFlow.
_BASE_BYTES = 400 * 2**20
_BASE_BYTES_LAUNCHPAD = 520 * 2**20

_LEFT_OUT = (
    "start of processes, files that are written, copies of late blocks, what a network adds, the "
    "report at the end; other programs on these cores"
)


@dataclasses.dataclass(frozen=True)
class Timed:
    """A part of a run with the time that it would take in all.

    Attributes:
        part: what is done how often.
        seconds: for all times together.
    """

    part: Part
    seconds: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run would take on a machine like this one.

    Attributes:
        start: seconds until workers compute at their pace.
        parts: what follows.
        step_seconds: one step of KIP, of each kernel; empty for Label Solve.
        engine: that evaluates blocks.
        workers, threads: that did so for the measurement.
        sampled: how many of a step's target images were looked at, and of how many.
        memory: bytes of the coordinator with its arrays, and of each worker.
        checkpoints: how many there are at most, and bytes of all of them.
    """

    start: float
    parts: list[Timed]
    step_seconds: list[float]
    engine: str
    workers: int
    threads: int
    sampled: tuple[int, int]
    memory: dict[str, int]
    checkpoints: tuple[int, int]

    @property
    def seconds(self) -> float:
        return self.start + sum(timed.seconds for timed in self.parts)

    @property
    def kernel_pairs(self) -> int:
        return sum(timed.part.times * timed.part.pairs for timed in self.parts)

    @property
    def vjp_pairs(self) -> int:
        return sum(timed.part.times * timed.part.vjp_pairs for timed in self.parts)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "seconds": round(self.seconds, 2),
            "start_seconds": round(self.start, 2),
            "step_seconds": [round(seconds, 5) for seconds in self.step_seconds],
            "kernel_pairs": self.kernel_pairs,
            "vjp_pairs": self.vjp_pairs,
            "parts": [
                {**dataclasses.asdict(timed.part), "seconds": round(timed.seconds, 2)}
                for timed in self.parts
            ],
            "engine": self.engine,
            "workers": self.workers,
            "threads": self.threads,
            "memory_bytes": self.memory,
            "checkpoints": self.checkpoints[0],
            "checkpoint_bytes": self.checkpoints[1],
        }


def print_estimate(estimating: EstimateSettings, settings: RunSettings) -> None:
    """The command; starts no run and writes nothing.

    Raises:
        UserError: what the run itself would refuse.
    """
    estimate = estimate_run(settings)
    print(json.dumps(estimate.record()) if estimating.json else described(estimate))


def estimate_run(settings: RunSettings) -> Estimate:
    """What a run of `settings` would take, from its beginning, here.

    Raises:
        UserError: what the run itself would refuse.
    """
    dataset, data_hash = check_settings(settings)
    Workdir(settings.workdir).check(settings, data_hash)
    experiment = prepare(settings, dataset)
    tiling = tiling_of(settings, experiment.support.shape[1:])
    sizes = Sizes.of(experiment)
    scores_here = settings.launch == "inprocess" or settings.transport != "courier"
    workers = settings.num_workers or 1
    threads = settings.threads_per_worker or os.cpu_count() or 1
    row_sets = experiment.row_sets(with_validation=False)
    began = time.monotonic()
    pool, kernel = open_kernel(
        settings,
        experiment.support.shape[1:],
        inprocess_links(workers, row_sets, threads),
        row_sets,
        augmenting=experiment.augmenting,
    )
    measure = _Measuring(settings, experiment, pool, kernel, tiling)
    try:
        steps, sampled = measure.steps()
        per_pair, engine = measure.seconds_per_pair(), measure.engine
    finally:
        pool.close()
    parts = [
        Timed(
            part,
            part.times * (steps[part.kernel] if part.vjp_pairs else per_pair * part.pairs),
        )
        for part in parts_of(settings, sizes, tiling, scores_here)
    ]
    memory = memory_of(settings, sizes, _block_bytes(settings, experiment, tiling, workers))
    count, size = checkpoint_bytes(settings, sizes)
    return Estimate(
        start=max(0.0, measure.first_answer - began),
        parts=parts,
        step_seconds=list(steps.values()),
        engine=engine,
        workers=workers,
        threads=threads,
        sampled=sampled,
        memory=_processes(settings, memory, workers),
        checkpoints=(count, count * size),
    )


class _Measuring:
    """Times steps and evaluations on a pool of this process.

    Attributes:
        first_answer: when the first of them was over, which includes what comes once: compilers,
            checks of engines, rows that go to workers.
    """

    def __init__(
        self,
        settings: RunSettings,
        experiment: Experiment,
        pool: Pool,
        kernel: DistributedKernel,
        tiling: Tiling,
    ):
        self._settings = settings
        self.experiment = experiment
        self._pool = pool
        self.kernel = kernel
        self._tiling = tiling
        self._support_pairs = support_pairs(len(experiment.support), tiling)
        self.first_answer = 0.0

    @property
    def engine(self) -> str:
        return next(iter(self._pool.engines.values()), self._settings.engine)

    def steps(self) -> tuple[dict[int, float], tuple[int, int]]:
        """Seconds of a step by each kernel that some step has; how many target images were used."""
        settings, experiment = self._settings, self.experiment
        if not isinstance(settings, DistillSettings) or settings.steps == 0:
            return {}, (0, 0)
        used = {
            sampling.architecture(len(settings.architectures), settings.seed, step)
            for step in range(settings.steps)
        }
        times: dict[int, float] = {}
        for position in sorted(used):
            number = len(rows_of(experiment, settings, 0))
            times[position], rows = self._timed(_Steps(self, settings, position), number)
            sampled = rows, number
        return times, sampled

    def seconds_per_pair(self) -> float:
        """Of kernels alone: on test images, or, of Label Solve, of the sums over targets."""
        settings, experiment = self._settings, self.experiment
        is_kip = isinstance(settings, DistillSettings)
        split: Split = experiment.test if is_kip else experiment.target
        images = experiment.support.astype(settings.kernel_dtype)
        values = experiment.values(experiment.support_labels)

        def some(count: int) -> None:
            self.kernel.set_support(images.copy())
            k_ss = self.kernel.support_matrix()
            if is_kip:
                weights = [krr.Factor(k_ss, settings.ridge).solve(values)]
                rows = np.arange(count)
                score_coefficients(self.kernel, weights, split.key, rows, split.labels[:count])
                return
            none = label_solve.no_moments(len(images), experiment.num_outputs)
            for _ in label_solve.add_targets(none, self.kernel, split.key, split.labels[:count]):
                pass

        number = len(split.labels)
        seconds, _ = self._timed(some, number)
        return seconds / (self._support_pairs + number * len(images))

    def _timed(self, act: Callable[[int], None], number: int) -> tuple[float, int]:
        """Seconds that `act` takes for `number` rows, from those it takes for so many blocks of
        them as time allows; and how many rows that were."""
        blocks = spans(number, self._tiling.target)
        used = min(len(blocks), self._settings.num_workers or 1)
        self._seconds_of(act, blocks[used - 1][1])  # compiles, which takes however long it takes
        began = time.monotonic()
        while True:
            rows = blocks[used - 1][1]
            spent = [self._seconds_of(act, rows), self._seconds_of(act, rows)]
            left = began + _SECONDS - time.monotonic()
            if used == len(blocks) or left < 8 * spent[1]:
                break
            used = min(len(blocks), used * max(2, int(left / (8 * spent[1]))))
        while len(spent) < _REPETITIONS:
            taken = time.monotonic() - began
            if taken > (_SECONDS if len(spent) >= _LEAST_REPETITIONS else 3 * _SECONDS):
                break
            spent.append(self._seconds_of(act, rows))
        share = (self._support_pairs + number * self._num_support) / (
            self._support_pairs + rows * self._num_support
        )
        # Each worker compiles for itself what the scheduler gives it first, which may be late.
        return statistics.median(spent[len(spent) // 2 :]) * share, rows

    @property
    def _num_support(self) -> int:
        return len(self.experiment.support)

    def _seconds_of(self, act: Callable[[int], None], rows: int) -> float:
        start = time.monotonic()
        act(rows)
        now = time.monotonic()
        self.first_answer = self.first_answer or now
        return now - start


class _Steps:
    """Steps of KIP from the run's first state, each with other target images as in the run."""

    def __init__(self, measuring: _Measuring, settings: DistillSettings, position: int):
        self._settings = settings
        self._experiment = measuring.experiment
        self._kernel = measuring.kernel
        self._position = position
        self._state = first_state(self._experiment, settings)
        self._adam = adam_of(settings)
        self._frozen = frozen_pixels(self._experiment, settings)
        self._step = 0
        self._drawn = {0: rows_of(self._experiment, settings, 0)}

    def __call__(self, count: int) -> None:
        """One step on the first `count` of its target images; makes those of the next ready."""
        targets = self._targets(count)
        fresh = self._state._replace(images=self._state.images.copy())
        regression = kip.loss_at(self._kernel, fresh, targets, self._settings.ridge)
        self._step += 1
        self._drawn = {self._step: rows_of(self._experiment, self._settings, self._step)}
        ahead = self._targets(count)
        self._kernel.bring_ahead(ahead.key, ahead.rows, ahead.draw, ahead.kernel)
        kip.update(self._kernel, fresh, regression.cotangents, self._adam, self._frozen)

    def _targets(self, count: int) -> kip.Targets:
        rows = self._drawn[self._step][:count]
        targets = targets_of(self._experiment, self._settings, self._step, rows)
        return targets._replace(kernel=self._position)


def _block_bytes(
    settings: RunSettings, experiment: Experiment, tiling: Tiling, workers: int
) -> int:
    """What a worker keeps of a step's blocks for their gradient, and of the block at hand."""
    images = experiment.support[: tiling.support].astype(settings.kernel_dtype)
    n = len(experiment.support)
    kept = 0
    for spec in settings.kernel_specs:
        engine = make_engine(settings.engine, spec, 1)
        rows = PreparedImages(images, engine.features(images))
        one = engine.residual_bytes(rows, rows, both=False)
        if one is None:
            continue
        per_pair = one / len(images) ** 2
        block = per_pair * min(tiling.target, _targets(settings, experiment)) * len(images)
        if block <= MAX_RESIDUAL_BYTES_PER_BLOCK:
            pairs = n * _targets(settings, experiment) / workers
            kept = max(kept, int(min(MAX_RESIDUAL_BYTES, per_pair * pairs)))
    return kept


def _targets(settings: RunSettings, experiment: Experiment) -> int:
    if not isinstance(settings, DistillSettings):
        return 0
    return min(settings.targets_per_step, len(experiment.target.labels))


def _processes(settings: RunSettings, memory: Memory, workers: int) -> dict[str, int]:
    """Bytes of each process of the run."""
    coordinator = memory.data + memory.matrices
    if settings.launch == "local_mp":
        worker = _BASE_BYTES_LAUNCHPAD + memory.rows + memory.block
        return {"coordinator": _BASE_BYTES_LAUNCHPAD + coordinator, "worker": worker}
    base = _BASE_BYTES if settings.launch == "inprocess" else _BASE_BYTES_LAUNCHPAD
    return {"process": base + coordinator + workers * memory.block}


def described(estimate: Estimate) -> str:
    """For a person."""
    rows = [
        (
            timed.part.name,
            f"{timed.part.times:,}",
            f"{timed.part.times * timed.part.pairs:,}",
            f"{timed.part.times * timed.part.vjp_pairs:,}" if timed.part.vjp_pairs else "",
            _time(timed.seconds),
        )
        for timed in estimate.parts
    ]
    in_all = ("in all", "", f"{estimate.kernel_pairs:,}", f"{estimate.vjp_pairs:,}")
    table = text_table(
        ("part", "times", "kernel pairs", "vjp pairs", "time"),
        [("start", "", "", "", _time(estimate.start)), *rows, (*in_all, _time(estimate.seconds))],
        text_columns=1,
    )
    used, number = estimate.sampled
    steps = ""
    if estimate.step_seconds:
        each = " or ".join(f"{1000 * seconds:,.1f} ms" for seconds in estimate.step_seconds)
        steps = f"a step       {each}, measured on {used:,} of its {number:,} target images\n"
    memory = ", ".join(
        f"{'each ' if name == 'worker' else ''}{name} {size / 2**20:,.0f} MiB"
        for name, size in estimate.memory.items()
    )
    count, size = estimate.checkpoints
    workers = f"{estimate.workers} workers with {estimate.threads} threads each"
    return (
        f"{table}\n\n{steps}"
        f"measured by  {estimate.engine}, {workers}\n"
        f"memory       about {memory}\n"
        f"checkpoints  {count} at most, {size / 2**20:,.1f} MiB in all\n"
        f"left out     {_LEFT_OUT}"
    )


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else duration(seconds)
