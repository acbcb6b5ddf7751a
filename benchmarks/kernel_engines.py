"""Measures time and error per pair of images, for all kernel engines in one run.

    python benchmarks/kernel_engines.py --image=32x32x3 --architecture=convnet --json
        [--dtypes=float32] [--support=16] [--target=256] [--xla_target=64] [--nt_blocks=4,8]
        [--threads=2] [--repeats=5]

Every engine does all the work of a block, including variance maps or self covariances.
neural-tangents is jitted, and its time is the best over the square blocks of `--nt_blocks`. "vjp"
is K and its vjp with respect to the first images, in one call. Errors are relative to the largest
entry of neural-tangents' result in float64, on 3 by 5 images that differ. Prints one JSON list with
an object per engine and dtype. Ratios are neural-tangents' time in the same dtype over the
engine's. If neural-tangents is not installed, its row is missing, ratios are null, and errors are
relative to plain JAX in float64.
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.precision import enable_x64
from kipper.workers import banded_cpu
from kipper.workers.bands import banded_network
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages

Timing = tuple[float, float]  # forward and vjp, milliseconds per pair

HAS_REFERENCE = importlib.util.find_spec("neural_tangents") is not None


def images(shape: tuple[int, ...], count: int, seed: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(dtype)


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """The shortest time over `repeats` calls, after one that may compile."""
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
    return tuple(1e3 * seconds(f, repeats) / pairs for f in (forward, forward_and_vjp))


def neural_tangents_timing(
    spec: KernelSpec, shape: tuple[int, ...], blocks: list[int], repeats: int
) -> Timing:
    """The best times over block sizes, without compilation."""
    from kipper.workers.neural_tangents import kernel_function

    kernel = kernel_function(spec)

    def value_and_vjp(x1: Any, x2: Any, cotangent: Any) -> Any:
        value, pullback = jax.vjp(lambda x: kernel(x, x2), x1)
        return value, pullback(cotangent)[0]

    best = [float("inf"), float("inf")]
    for block in blocks:
        x1, x2 = images(shape, block, 0, spec.dtype), images(shape, block, 1, spec.dtype)
        cotangent = np.ones((block, block), spec.dtype)
        runs = (jax.jit(kernel), (x1, x2)), (jax.jit(value_and_vjp), (x1, x2, cotangent))
        for index, (function, arguments) in enumerate(runs):
            compiled = function.lower(*arguments).compile()
            once = seconds(lambda c=compiled, a=arguments: jax.block_until_ready(c(*a)), repeats)
            best[index] = min(best[index], 1e3 * once / block**2)
    return best[0], best[1]


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


def measure(options: argparse.Namespace, dtype: str) -> list[dict[str, Any]]:
    """Measures each engine; returns one object per engine."""
    shape = tuple(int(side) for side in options.image.split("x"))
    spec = KernelSpec(architecture_named(options.architecture), options.kernel, dtype)
    blocks = [int(block) for block in options.nt_blocks.split(",")]
    reference: Timing | None = None
    rows = []
    for name in engines_for(spec):
        engine = make_engine(name, spec, options.threads)
        if name == "neural_tangents":
            with enable_x64(dtype == "float64"):
                timing = reference = neural_tangents_timing(spec, shape, blocks, repeats=1)
        else:
            plain = name == "banded_xla"
            sizes = (options.support, options.xla_target if plain else options.target)
            timing = engine_timing(engine, shape, sizes, dtype, 1 if plain else options.repeats)
        ratios = (
            [round(r / t, 1) for r, t in zip(reference, timing, strict=True)] if reference else []
        )
        forward_ratio, vjp_ratio = ratios or (None, None)
        forward_error, vjp_error = errors(engine, spec, shape)
        rows.append(
            {
                "engine": name,
                "dtype": dtype,
                "image": options.image,
                "architecture": options.architecture,
                "device": jax.devices()[0].device_kind,
                "forward_ms_per_pair": float(f"{timing[0]:.4g}"),
                "vjp_ms_per_pair": float(f"{timing[1]:.4g}"),
                "forward_ratio": forward_ratio,
                "vjp_ratio": vjp_ratio,
                "forward_error": forward_error,
                "vjp_error": vjp_error,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="32x32x3")
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--kernel", default="ntk")
    parser.add_argument("--dtypes", default="float32,float64")
    parser.add_argument("--support", type=int, default=16)
    parser.add_argument("--target", type=int, default=256)
    parser.add_argument("--xla_target", type=int, default=64)
    parser.add_argument("--nt_blocks", default="4,8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON only, without the table")
    options = parser.parse_args()
    rows = [row for dtype in options.dtypes.split(",") for row in measure(options, dtype)]
    if not options.json:
        for row in rows:
            print(
                f"{row['engine']:16} {row['dtype']}  "
                f"forward {row['forward_ms_per_pair']:10.6f} ms ({row['forward_ratio'] or '-'}x)  "
                f"vjp {row['vjp_ms_per_pair']:10.6f} ms ({row['vjp_ratio'] or '-'}x)"
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
