"""`kipper distill --dry_run` and `kipper bench distill`: the cost of a run before it starts.

Kernel pairs are counted. Times are measured in this process, on the run's own steps with part of
their target images, and on its own evaluation with part of the test images.
"""

import dataclasses
import time
from typing import Any

from kipper.common.cores import usable_cores
from kipper.common.durations import duration
from kipper.common.settings import ComputeSettings, EstimateSettings, RunSettings
from kipper.common.strict_json import json_text
from kipper.launch.commands.display import print_table, working_on
from kipper.launch.commands.pace import Measuring
from kipper.launch.coordinator import check_settings
from kipper.launch.inprocess import inprocess_links
from kipper.server.algorithms import algorithm_of
from kipper.server.estimate import (
    Memory,
    Part,
    Sizes,
    memory_of,
)
from kipper.server.experiment import Experiment, prepare
from kipper.server.session import open_kernel, tiling_of
from kipper.server.tiling import Tiling
from kipper.server.workdir import Workdir
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages
from kipper.workers.worker import MAX_RESIDUAL_BYTES_PER_BLOCK, max_residual_bytes

# Memory of a process before it holds data: Python, JAX, and under Launchpad TensorFlow.
_BASE_BYTES = 400 * 2**20
_BASE_BYTES_LAUNCHPAD = 520 * 2**20

_LEFT_OUT = (
    "start of processes, files that are written, copies of late blocks, what a network adds, the "
    "report at the end; other programs on these cores"
)


@dataclasses.dataclass(frozen=True)
class Timed:
    """A part of a run, and the seconds that all its repetitions together would take."""

    part: Part
    seconds: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The cost of a run on a machine like this one.

    Attributes:
        start: seconds until workers compute at full speed.
        parts: what follows.
        step_seconds: the seconds of one step of KIP, for each kernel; empty for Label Solve.
        engine: the one measured.
        workers, threads: their number during the measurement.
        sampled: the number of a step's target images that were used, and of all.
        memory: bytes of each process of the run, by its name.
        checkpoints: their maximum number, and the bytes of all of them.
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
    """Prints the estimate; see `estimate_run`."""
    with working_on("Measuring a step, and kernels without gradient, on this machine"):
        estimate = estimate_run(settings)
    if estimating.json:
        print(json_text(estimate.record()))
    else:
        _print(estimate)


def estimate_run(settings: RunSettings) -> Estimate:
    """Measures the cost of a run from its beginning; starts no run and writes nothing.

    Raises:
        UserError: the run itself would be refused.
    """
    dataset, data_hash = check_settings(settings)
    compute, execution = settings.compute, settings.execution
    Workdir(execution.workdir).check(settings, data_hash)
    experiment = prepare(compute, dataset)
    tiling = tiling_of(compute, experiment.support.shape[1:])
    algorithm, sizes = algorithm_of(compute), Sizes.of(experiment, compute.kernel_dtype)
    scores_here = execution.launch == "inprocess" or execution.transport != "courier"
    workers = execution.fixed_workers or 1
    threads = execution.threads_per_worker or usable_cores()
    row_sets = experiment.row_sets(with_validation=False)
    began = time.monotonic()
    pool, kernel = open_kernel(
        settings,
        experiment.support.shape[1:],
        inprocess_links(workers, row_sets, threads),
        row_sets,
        augmenting=experiment.augmenting,
    )
    measure = Measuring(settings.compute, workers, experiment, pool, kernel, tiling)
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
        for part in algorithm.parts(sizes, tiling, scores_here)
    ]
    targets = algorithm.gradient_targets(sizes)
    engines = _of_engines(settings.compute, experiment, tiling, workers, threads, targets)
    memory = memory_of(sizes, targets, *engines)
    count, size = algorithm.checkpoints(sizes)
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


def _of_engines(
    settings: ComputeSettings,
    experiment: Experiment,
    tiling: Tiling,
    workers: int,
    threads: int,
    targets: int,
) -> tuple[int, int]:
    """Numbers that engines keep for an image, and bytes that a worker keeps of a step's blocks."""
    images = experiment.support[: tiling.support].astype(settings.kernel_dtype)
    features = kept = 0
    for spec in settings.kernel_specs:
        engine = make_engine(settings.engine, spec, 1)
        rows = PreparedImages(images, engine.features(images))
        features += rows.features.shape[1]
        one = engine.residual_bytes(rows, rows, both=False)
        if one is None:
            continue
        per_pair = one / len(images) ** 2
        step = tiling.spans_of_step(len(experiment.support), targets)
        block = per_pair * max((stop - start for start, stop in step), default=0) * len(images)
        if block <= MAX_RESIDUAL_BYTES_PER_BLOCK:
            pairs = len(experiment.support) * targets / workers
            kept = max(kept, int(min(max_residual_bytes(threads), per_pair * pairs)))
    return features, kept


def _processes(settings: RunSettings, memory: Memory, workers: int) -> dict[str, int]:
    """Bytes of each process of the run."""
    coordinator, launch = memory.data + memory.matrices, settings.execution.launch
    base = _BASE_BYTES if launch in ("inprocess", "ray") else _BASE_BYTES_LAUNCHPAD
    if launch in ("local_mp", "ray"):
        worker = base + memory.rows + memory.features + memory.block
        return {"coordinator": base + coordinator, "worker": worker}
    return {"process": base + coordinator + workers * (memory.features + memory.block)}


def _print(estimate: Estimate) -> None:
    rows = [
        (
            timed.part.name,
            f"{timed.part.times:,}",
            f"{timed.part.times * timed.part.pairs:,}",
            f"{timed.part.times * timed.part.vjp_pairs:,}" if timed.part.vjp_pairs else "",
            duration(timed.seconds, exact=True),
        )
        for timed in estimate.parts
    ]
    in_all = ("in all", "", f"{estimate.kernel_pairs:,}", f"{estimate.vjp_pairs:,}")
    print_table(
        ("part", "times", "kernel pairs", "vjp pairs", "time"),
        [
            ("start", "", "", "", duration(estimate.start, exact=True)),
            *rows,
            (*in_all, duration(estimate.seconds, exact=True)),
        ],
        text_columns=1,
    )
    used, number = estimate.sampled
    print()
    if estimate.step_seconds:
        each = " or ".join(f"{1000 * seconds:,.1f} ms" for seconds in estimate.step_seconds)
        print(f"a step       {each}, measured on {used:,} of its {number:,} target images")
    memory = ", ".join(
        f"{'each ' if name == 'worker' else ''}{name} {size / 2**20:,.0f} MiB"
        for name, size in estimate.memory.items()
    )
    count, size = estimate.checkpoints
    workers = f"{estimate.workers} workers with {estimate.threads} threads each"
    print(
        f"measured by  {estimate.engine}, {workers}\n"
        f"memory       at least {memory}\n"
        f"checkpoints  at most {count}, {size / 2**20:,.1f} MiB in all\n"
        f"left out     {_LEFT_OUT}"
    )
