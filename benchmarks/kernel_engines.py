"""Measures time and error per pair of images, for all kernel engines in one run.

    python benchmarks/kernel_engines.py
        [--cases=convnet:16x16x3,convnet:28x28x1,convnet:32x32x3,myrtle5:32x32x3] [--rounds=2]
        [--support=16] [--target=256] [--nt_blocks=4,8] [--kernel=ntk] [--threads=2] [--json=PATH]

Engines take turns, `--rounds` of them, so that other work on the machine meets all; the least time
of each counts. Every engine does all the work of a block, including variance maps or self
covariances. neural-tangents is jitted, in float32 and in float64, and its time is the best over the
square blocks of `--nt_blocks` (of 4 only for Myrtle). kipper's engines compute in float32;
`banded_xla` has one turn, with fewer targets. "vjp" is K and its vjp with respect to the first
images, in one call. Ratios are the time of neural-tangents in the better of its dtypes over the
engine's. Errors are relative to the largest entry of neural-tangents' result in float64, on 3 by 5
images that differ. Prints a Markdown table, minutes after its start. If neural-tangents is not
installed, its rows and the ratios are missing, and errors are relative to plain JAX in float64.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.cores import usable_cores
from kipper.common.precision import enable_x64
from kipper.workers import banded_cpu
from kipper.workers.bands import banded_network
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages

Timing = tuple[float, float]  # forward and vjp, milliseconds per pair

HAS_REFERENCE = importlib.util.find_spec("neural_tangents") is not None


def images(shape: tuple[int, ...], count: int, seed: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(dtype)


def seconds(function: Callable[[], Any], repeats: int, warm: bool = True) -> float:
    """The shortest time over `repeats` calls, after one that may compile if `warm`."""
    if warm:
        function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def prepared(engine: Engine, pixels: np.ndarray) -> PreparedImages:
    return PreparedImages(pixels, engine.features(pixels))


def engine_timing(
    engine: Engine, shape: tuple[int, ...], sizes: tuple[int, int], dtype: str, repeats: int
) -> Timing:
    x1, x2 = images(shape, sizes[0], 0, dtype), images(shape, sizes[1], 1, dtype)
    cotangent = np.ones(sizes, dtype)

    def forward() -> None:
        engine.block(prepared(engine, x1), prepared(engine, x2))

    def forward_and_vjp() -> None:
        first, second = prepared(engine, x1), prepared(engine, x2)
        engine.block_vjp(first, second, cotangent, both=False)

    pairs = sizes[0] * sizes[1]
    first, second = (1e3 * seconds(f, repeats) / pairs for f in (forward, forward_and_vjp))
    return first, second


def neural_tangents_calls(
    spec: KernelSpec, shape: tuple[int, ...], block: int
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """K of a square block, and K with its vjp, compiled."""
    from kipper.workers.neural_tangents import kernel_function

    kernel = kernel_function(spec)

    def value_and_vjp(x1: Any, x2: Any, cotangent: Any) -> Any:
        value, pullback = jax.vjp(lambda x: kernel(x, x2), x1)
        return value, pullback(cotangent)[0]

    with enable_x64(spec.dtype == "float64"):
        x1, x2 = images(shape, block, 0, spec.dtype), images(shape, block, 1, spec.dtype)
        cotangent = np.ones((block, block), spec.dtype)
        forward = jax.jit(kernel).lower(x1, x2).compile()
        both = jax.jit(value_and_vjp).lower(x1, x2, cotangent).compile()

    def run(compiled: Any, *arguments: np.ndarray) -> None:
        with enable_x64(spec.dtype == "float64"):
            jax.block_until_ready(compiled(*arguments))

    return lambda: run(forward, x1, x2), lambda: run(both, x1, x2, cotangent)


def errors(engine: Engine, spec: KernelSpec, shape: tuple[int, ...]) -> Timing:
    """Errors of K and of the vjp, relative to the reference in float64."""
    x1, x2 = images(shape, 3, 2, spec.dtype), images(shape, 5, 3, spec.dtype)
    cotangent = images((5,), 3, 4, spec.dtype)
    plain = "dense" if engine.name == "dense" else "banded_xla"
    reference = make_engine(
        "neural_tangents" if HAS_REFERENCE else plain,
        KernelSpec(spec.architecture, spec.kind, "float64"),
        1,
    )
    expected, (expected_vjp,) = reference.block_vjp(
        prepared(reference, x1.astype(float)),
        prepared(reference, x2.astype(float)),
        cotangent.astype(float),
        both=False,
    )
    got, (got_vjp,) = engine.block_vjp(
        prepared(engine, x1), prepared(engine, x2), cotangent, both=False
    )
    return (
        float(np.abs(got - expected).max() / np.abs(expected).max()),
        float(np.abs(got_vjp - expected_vjp).max() / np.abs(expected_vjp).max()),
    )


def engines_for(spec: KernelSpec) -> list[str]:
    """The engines that can evaluate `spec` on this machine."""
    names = ["neural_tangents"] if HAS_REFERENCE else []
    if banded_network(spec.architecture, 64, 64) is None:
        return [*names, "dense"]
    native = banded_cpu.unavailable() is None and jax.default_backend() == "cpu"
    return [*names, "banded_xla", *(["banded_cpu"] if native else [])]


@dataclasses.dataclass
class Row:
    """An engine in one case: its times in milliseconds per pair, and its errors."""

    engine: str
    dtype: str
    architecture: str
    image: str
    forward_ms: float = math.inf
    vjp_ms: float = math.inf
    forward_ratio: float | None = None
    vjp_ratio: float | None = None
    forward_error: float | None = None
    vjp_error: float | None = None

    def take(self, forward_ms: float, vjp_ms: float) -> None:
        self.forward_ms = min(self.forward_ms, forward_ms)
        self.vjp_ms = min(self.vjp_ms, vjp_ms)


# Networks of which a block of more than 4 by 4 takes neural-tangents too much time and memory.
_MANY_PAIRS = {"myrtle5", "myrtle7", "myrtle10"}


def measure(options: argparse.Namespace, architecture: str, image: str) -> list[Row]:
    """Measures each engine on images of that size, by turns."""
    shape = tuple(int(side) for side in image.split("x"))
    spec = KernelSpec(architecture_named(architecture), options.kernel, "float32")
    pooled = architecture in _MANY_PAIRS
    targets = options.target // 4 if pooled else options.target
    turns: list[tuple[Row, Callable[[], Timing], int]] = []  # with the number of rounds
    rows = []
    for name in engines_for(spec):
        if name == "neural_tangents":
            for dtype in ("float32", "float64"):
                row = Row(name, dtype, architecture, image)
                rows.append(row)
                for block in (int(block) for block in options.nt_blocks.split(",")):
                    if pooled and block > 4:
                        continue
                    calls = neural_tangents_calls(
                        dataclasses.replace(spec, dtype=dtype), shape, block
                    )
                    timed = functools.partial(once, calls, block**2)
                    turns.append((row, timed, options.rounds))
            continue
        engine = make_engine(name, spec, options.threads)
        row = Row(name, "float32", architecture, image)
        row.forward_error, row.vjp_error = errors(engine, spec, shape)
        rows.append(row)
        plain = name == "banded_xla"
        sizes = (options.support, max(2, targets // (32 if pooled else 4)) if plain else targets)
        repeats = 1 if plain else 5
        timed = functools.partial(engine_timing, engine, shape, sizes, "float32", repeats)
        turns.append((row, timed, 1 if plain else options.rounds))
    for number in range(options.rounds):
        for row, timed, rounds in turns:
            if number < rounds:
                row.take(*timed())
    reference = [row for row in rows if row.engine == "neural_tangents"]
    for row in rows if reference else []:
        row.forward_ratio = min(r.forward_ms for r in reference) / row.forward_ms
        row.vjp_ratio = min(r.vjp_ms for r in reference) / row.vjp_ms
    return rows


def once(calls: tuple[Callable[[], Any], Callable[[], Any]], pairs: int) -> Timing:
    """The milliseconds per pair of one call of each."""
    forward, both = (1e3 * seconds(call, repeats=1, warm=False) / pairs for call in calls)
    return forward, both


def table(rows: list[Row]) -> str:
    """The rows of a case in Markdown."""

    def ratio(value: float | None) -> str:
        return "" if value is None else f"{value:.3g}x" if value < 100 else f"{value:.0f}x"

    def error(value: float | None) -> str:
        return "" if value is None else f"{value:.1e}"

    lines = []
    case = ""
    for row in rows:
        this = f"{row.architecture}, {row.image}"
        lines.append(
            f"| {this if this != case else ''} | {row.engine}, {row.dtype} "
            f"| {row.forward_ms:.3g} | {ratio(row.forward_ratio)} "
            f"| {row.vjp_ms:.3g} | {ratio(row.vjp_ratio)} "
            f"| {error(row.forward_error)} | {error(row.vjp_error)} |"
        )
        case = this
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cases", default="convnet:16x16x3,convnet:28x28x1,convnet:32x32x3,myrtle5:32x32x3"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kernel", default="ntk")
    parser.add_argument("--support", type=int, default=16)
    parser.add_argument("--target", type=int, default=256)
    parser.add_argument("--nt_blocks", default="4,8")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", help="write the rows to this file, too")
    options = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, {options.threads} threads, milliseconds per pair\n")
    print("| network, image | engine | K | | K with vjp | | error of K | of the vjp |")
    print("|" + " --- |" * 8, flush=True)
    rows: list[Row] = []
    for case in options.cases.split(","):
        some = measure(options, *case.split(":"))
        print(table(some), flush=True)
        rows += some
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps([dataclasses.asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
