"""Measures the dense engine: times of its parts, and float32 errors against float64.

    python benchmarks/dense_kernel.py --dataset=cifar10 --data_dir=DIR [--hidden=1,3] [--repeats=12]

The blocks are 100 x 5000 pairs of standardised training images. Half of the 100 images are among
the 5000; the other half are images of these with noise of 1e-3 of a pixel's standard deviation.
Prints one JSON object. `milliseconds` are the shortest and the median time, with parts taking
turns. `errors` are those of float32, for this engine (with and without its refinement of near
pairs) and for neural-tangents: of K relative to the exact entry for equal and for noisy images, and
relative to the largest entry for other pairs; of the vjp in the Euclidean norm.
"""

import argparse
import functools
import json
import time

import jax
import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.datasets import load_dataset
from kipper.common.precision import enable_x64
from kipper.workers import dense, dense_cpu
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages

FIRST, SECOND = 100, 5000


def batches(dataset: str, data_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    pixels = load_dataset(dataset, data_dir).x_train.astype("float32")
    x2 = pixels[np.random.default_rng(0).permutation(len(pixels))[:SECOND]]
    x2 = (x2 - x2.mean((0, 1, 2))) / x2.std((0, 1, 2))
    noise = 1e-3 * np.random.default_rng(1).normal(size=x2[: FIRST // 2].shape)
    return np.concatenate([x2[: FIRST // 2], x2[FIRST // 2 : FIRST] + noise]).astype("float32"), x2


def milliseconds(
    x1: np.ndarray, x2: np.ndarray, hidden: list[int], repeats: int
) -> dict[str, list[float]]:
    cotangent = np.random.default_rng(2).normal(size=(len(x1), len(x2))).astype(x1.dtype)
    with enable_x64(x1.dtype == np.float64):
        images = jax.device_put((x1, dense.root_mean_squares(x1), x2, dense.root_mean_squares(x2)))
        _, rms1, _, rms2 = images
        product = jax.jit(dense.input_gaps)
        gaps, cotangent = product(*images), jax.device_put(cotangent)
        parts = {
            "product": functools.partial(dense_cpu.input_gaps, *map(np.asarray, images), threads=2),
            "product, plain JAX": functools.partial(product, *images),
            "product of vjp": functools.partial(
                dense_cpu.images_vjp,
                *map(np.asarray, (cotangent, rms1, images[0], images[2])),
                threads=2,
            ),
            "product of vjp, plain JAX": functools.partial(
                jax.jit(dense.images_vjp), cotangent, rms1, images[0], images[2]
            ),
        }
        for depth in hidden:
            network = dense.DenseNetwork(depth, 2.0, 0.01)
            native = {"threads": 2}
            functions = {
                "native": functools.partial(dense_cpu.kernel, network, "ntk", **native),
                "native vjp": functools.partial(dense_cpu.kernel_vjp, network, "ntk", **native),
                "plain JAX": jax.jit(functools.partial(dense.kernel, network, "ntk")),
                "plain JAX vjp": jax.jit(functools.partial(dense.kernel_vjp, network, "ntk")),
            }
            for name, function in functions.items():
                host = name.startswith("native")
                inputs = (
                    (gaps, rms1, rms2, cotangent) if name.endswith("vjp") else (gaps, rms1, rms2)
                )
                given = [np.asarray(array) if host else array for array in inputs]
                parts[f"fc{depth} {name}"] = functools.partial(function, *given)
        seconds: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(repeats + 1):
            for name, part in parts.items():
                started = time.perf_counter()
                jax.block_until_ready(part())
                seconds[name].append(time.perf_counter() - started)
    return {
        name: [round(1e3 * f(times[1:]), 2) for f in (min, np.median)]
        for name, times in seconds.items()
    }


def results(engine: Engine, x1: np.ndarray, x2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cotangent = np.random.default_rng(2).normal(size=(len(x1), len(x2))).astype(x1.dtype)
    first, second = (PreparedImages(x, engine.features(x)) for x in (x1, x2))
    kernel, (pulled,) = engine.block_vjp(first, second, cotangent, both=False)
    return kernel, pulled


def errors(name: str, x1: np.ndarray, x2: np.ndarray) -> dict[str, list[float]]:
    single = KernelSpec(architecture_named(name), "ntk", "float32")
    double = KernelSpec(architecture_named(name), "ntk", "float64")
    exact = results(make_engine("dense", double, 2), x1.astype("float64"), x2.astype("float64"))
    got = {
        engine: results(make_engine(engine, single, 2), x1, x2)
        for engine in ("dense", "neural_tangents")
    }
    refined, dense.refined_gaps = dense.refined_gaps, lambda gaps, *_: gaps
    got["unrefined"] = results(make_engine("dense", single, 2), x1, x2)
    dense.refined_gaps = refined
    pairs = np.arange(FIRST)
    others = np.ones((FIRST, SECOND), bool)
    others[pairs, pairs] = False
    table = {}
    for engine, (kernel, pulled) in got.items():
        off = np.abs(kernel - exact[0])
        close = (off / np.abs(exact[0]))[pairs, pairs]
        share = float(off[others].max() / np.abs(exact[0]).max())
        norm = float(np.linalg.norm(pulled - exact[1]) / np.linalg.norm(exact[1]))
        halves = (float(half.max()) for half in np.split(close, 2))
        table[engine] = [float(f"{value:.1e}") for value in (*halves, share, norm)]
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data_dir")
    parser.add_argument("--hidden", default="1,3")
    parser.add_argument("--repeats", type=int, default=12)
    options = parser.parse_args()
    x1, x2 = batches(options.dataset, options.data_dir)
    hidden = [int(depth) for depth in options.hidden.split(",")]
    report = {
        "milliseconds": {
            dtype: milliseconds(x1.astype(dtype), x2.astype(dtype), hidden, options.repeats)
            for dtype in ("float32", "float64")
        },
        "errors": {f"fc{depth}": errors(f"fc{depth}", x1, x2) for depth in hidden},
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
