"""`kipper bench`: kernel pairs per second on this machine, for each engine.

With the flags of a run it estimates the cost of that run instead: see `estimate.py`.
"""

import dataclasses
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named, check_image_side
from kipper.common.cores import usable_cores
from kipper.common.datasets import load_dataset
from kipper.common.engines import ENGINES
from kipper.common.errors import KipperError, UserError
from kipper.common.preprocessing import fit_preprocessing
from kipper.common.settings import BenchSettings, EstimateSettings, RunSettings
from kipper.common.strict_json import json_text
from kipper.launch.commands.display import print_table
from kipper.server.tiling import Tiling, tiling_for
from kipper.workers.choice import check_engine, make_engine
from kipper.workers.engine import Engine, PreparedImages

_SLOW = "it takes minutes to compile and compute; give --engine=neural_tangents to measure it."
# The first block, small enough for any engine.
_SMALLEST = Tiling(2, 2)
LEAST_REPETITIONS = 3


@dataclasses.dataclass(frozen=True)
class Rate:
    """The speed of one engine.

    Attributes:
        engine: its name.
        arithmetic: what its bits depend on, such as the GPU.
        block: support and target images of the blocks.
        kernel, with_vjp: median milliseconds per pair for K alone, and for K with its gradient.
        repetitions: number of blocks that each median is taken over, at least.
    """

    engine: str
    arithmetic: str
    block: tuple[int, int]
    kernel: float
    with_vjp: float
    repetitions: int

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "engine": self.engine,
            "arithmetic": self.arithmetic,
            "block": list(self.block),
            "ms_per_pair": self.kernel,
            "pairs_per_second": 1000 / self.kernel,
            "ms_per_pair_with_vjp": self.with_vjp,
            "pairs_per_second_with_vjp": 1000 / self.with_vjp,
            "repetitions": self.repetitions,
        }


def bench(settings: BenchSettings | EstimateSettings, run: RunSettings | None = None) -> None:
    """The command.

    Raises:
        UserError: a setting cannot be used, or no engine can evaluate the kernel here.
    """
    if run is not None:
        from kipper.launch.commands.estimate import print_estimate

        assert isinstance(settings, EstimateSettings)
        print_estimate(settings, run)
        return
    assert isinstance(settings, BenchSettings)
    rates, missing = measure(settings)
    if settings.json:
        print(json_text({"engines": [rate.record() for rate in rates], "missing": missing}))
        return
    rows = [
        (
            rate.engine,
            f"{rate.block[0]} x {rate.block[1]}",
            f"{rate.kernel:,.4g}",
            f"{1000 / rate.kernel:,.0f}",
            f"{rate.with_vjp:,.4g}",
            f"{1000 / rate.with_vjp:,.0f}",
        )
        for rate in rates
    ]
    heads = ("engine", "block", "K: ms/pair", "pairs/s", "K and vjp: ms/pair", "pairs/s")
    print_table(heads, rows, text_columns=2)
    for engine, reason in missing.items():
        print(f"without {engine}: {reason}")


def measure(settings: BenchSettings) -> tuple[list[Rate], dict[str, str]]:
    """The speed of each engine that can evaluate the kernel here, and why others cannot."""
    settings.check()
    spec = KernelSpec(
        architecture_named(settings.architecture), settings.kernel, settings.kernel_dtype
    )
    images = _images(settings, spec)
    asked = ENGINES[1:] if settings.engine == "auto" else (settings.engine,)
    missing: dict[str, str] = {}
    # A pair of its convolutional kernels takes a second; fully connected ones are fast.
    is_slow = spec.architecture.stages and importlib.util.find_spec("neural_tangents")
    for name in asked:
        if settings.engine == "auto" and name == "neural_tangents" and is_slow:
            missing[name] = _SLOW
            continue
        try:
            check_engine(name, spec)
        except UserError as error:
            if settings.engine != "auto":
                raise
            missing[name] = str(error)
    names = [name for name in asked if name not in missing]
    if not names:
        raise UserError(f"No engine evaluates {settings.architecture!r} here; see kipper doctor.")
    threads = settings.threads or usable_cores()
    rates = []
    for name in names:
        try:
            engine = make_engine(name, spec, threads)
        except KipperError as error:
            missing[name] = str(error)
            continue
        height, width, channels = images.shape[1:]
        tiling = tiling_for(spec, name, (height, width, channels), None, None)
        rates.append(_rate(name, engine, images, tiling, settings.seconds / len(names)))
    return rates, missing


def _images(settings: BenchSettings, spec: KernelSpec) -> np.ndarray:
    """Standardised images (n, h, w, c) in the kernel's dtype."""
    if settings.dataset is not None:
        dataset = load_dataset(settings.dataset, settings.data_dir)
        some = dataset.x_train[:4096]
        found = fit_preprocessing("standard", some).apply(some)
    else:
        found = np.random.default_rng(0).normal(size=(1024, *settings.shape))
    check_image_side(spec.architecture, *found.shape[1:3])
    return found.astype(settings.kernel_dtype)


def _rate(name: str, engine: Engine, images: np.ndarray, most: Tiling, seconds: float) -> Rate:
    """Measures blocks as large as a run's, or as time allows, after one to warm up."""

    def kernel(tiling: Tiling) -> None:
        engine.block(*prepared(tiling))

    def with_vjp(tiling: Tiling) -> None:
        cotangent = np.ones((tiling.support, tiling.target), images.dtype)
        engine.block_vjp(*prepared(tiling), cotangent, both=False)

    def prepared(tiling: Tiling) -> tuple[PreparedImages, PreparedImages]:
        return every.take(slice(0, tiling.support)), every.take(slice(-tiling.target, None))

    every = PreparedImages(images, engine.features(images))
    largest = Tiling(min(most.support, len(images), 32), min(most.target, len(images)))
    block, end = _SMALLEST, time.monotonic() + seconds
    while True:
        with_vjp(block)  # warm-up: engines compile for each shape
        spent = _seconds(with_vjp, block)
        larger = Tiling(
            min(largest.support, 2 * block.support), min(largest.target, 4 * block.target)
        )
        grown = larger.support * larger.target / (block.support * block.target)
        if grown == 1 or spent * grown * (2 * LEAST_REPETITIONS + 2) > end - time.monotonic():
            break
        block = larger
    pairs = block.support * block.target
    left = end - time.monotonic()
    times = {act: _repeated(act, block, left / 2) for act in (kernel, with_vjp)}
    return Rate(
        name,
        engine.arithmetic,
        (block.support, block.target),
        1000 * statistics.median(times[kernel]) / pairs,
        1000 * statistics.median(times[with_vjp]) / pairs,
        min(map(len, times.values())),
    )


def _repeated(act: Callable[[Tiling], None], block: Tiling, seconds: float) -> list[float]:
    act(block)
    end = time.monotonic() + seconds
    spent: list[float] = []
    while len(spent) < LEAST_REPETITIONS or time.monotonic() < end:
        spent.append(_seconds(act, block))
    return spent


def _seconds(act: Callable[[Tiling], None], block: Tiling) -> float:
    start = time.perf_counter()
    act(block)
    return time.perf_counter() - start
