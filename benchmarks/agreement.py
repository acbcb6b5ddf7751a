"""Measures how much the answers of correct workers differ: the basis of replies.py's tolerances.

    python benchmarks/agreement.py save OUT.npz [--level=x86-64-v3] [--engines=banded_cpu,dense]
    python benchmarks/agreement.py compare A.npz B.npz ...

`save` computes K and its vjp for both sides of blocks of 6 by 48 images, in float32 and float64, by
each engine that can, and writes them to a file; run it for each instruction set, Python or device.
`compare` compares all answers to a block with each other, over all files. Images are noise, half of
it constant background: `ordinary`, or the first six of the second images repeat the first images
(`moved 0`), also with noise of 0.001 to 0.1 on every pixel, as the images of a run are that began
with natural ones. Differences of an array are given in two ways: the largest, relative to the
largest entry; and the root of the sum of squares, relative to that of the array.
"""

import argparse
import itertools

import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import UserError
from kipper.workers import native_library
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages

NETWORKS = {"convnet": (8, 8, 1), "myrtle5": (8, 8, 3), "conv_vec2": (6, 6, 3), "fc3": (6, 6, 3)}
ENGINES = ("banded_cpu", "banded_xla", "dense", "neural_tangents")
IMAGES = ("ordinary", "moved 0", "moved 0.001", "moved 0.01", "moved 0.1")


def pixels(which: str, shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """First and second images of a block."""
    rng = np.random.default_rng(0)
    x1, x2 = rng.normal(size=(6, *shape)), rng.normal(size=(48, *shape))
    x1[:, : shape[0] // 2], x2[:, : shape[0] // 2] = -0.4, -0.4
    if which != "ordinary":
        by = float(which.split()[1])
        x2[:6] = x1 + by * rng.normal(size=x1.shape)
    return x1.astype(dtype), x2.astype(dtype)


def save(path: str, engines: list[str]) -> None:
    """Computes all blocks, and writes them under "engine|network|kind|dtype|images|array"."""
    found = {}
    cases = itertools.product(engines, NETWORKS, ("ntk", "nngp"), ("float32", "float64"))
    for name, network, kind, dtype in cases:
        spec = KernelSpec(architecture_named(network), kind, dtype)
        try:
            engine = make_engine(name, spec, 1)
        except UserError:
            continue
        for which in IMAGES:
            pair = pixels(which, NETWORKS[network], dtype)
            x1, x2 = (PreparedImages(x, engine.features(x)) for x in pair)
            cotangent = np.random.default_rng(1).normal(size=(6, 48)).astype(dtype)
            kernel, (rows, columns) = engine.block_vjp(x1, x2, cotangent, both=True)
            for array, value in (("K", kernel), ("rows", rows), ("columns", columns)):
                found["|".join((name, network, kind, dtype, which, array))] = value
    np.savez(path, **found)


def compare(paths: list[str]) -> None:
    """Prints the largest differences over all pairs of files and engines."""
    answers: dict[str, list[tuple[str, np.ndarray]]] = {}
    for path in paths:
        with np.load(path) as file:
            for name in file.files:
                engine, block = name.split("|", 1)
                answers.setdefault(block, []).append((f"{path}:{engine}", file[name]))
    largest: dict[tuple[str, ...], dict[str, tuple[float, str]]] = {}
    for block, given in answers.items():
        network, kind, dtype, which, array = block.split("|")
        what = "K" if array == "K" else "vjp"
        for (one, a), (other, b) in itertools.combinations(given, 2):
            where = f"{network} {kind}, {one} and {other}"
            both = {
                "largest": np.abs(a - b).max() / np.abs(b).max(),
                "root": np.linalg.norm(a - b) / np.linalg.norm(b),
            }
            worst = largest.setdefault((dtype, which, what), {})
            for measure, value in both.items():
                if value > worst.get(measure, (0.0, ""))[0]:
                    worst[measure] = float(value), where
    for case, worst in sorted(largest.items()):
        for measure, (value, where) in worst.items():
            print(f"{' '.join(case):26} {measure:8} {value:.1e}  ({where})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("save", "compare"))
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--level", help="the best instruction set that native code may use")
    options = parser.parse_args()
    if options.what == "compare":
        compare(options.paths)
        return
    if options.level is not None:
        levels = native_library.runnable_levels()
        below = levels[levels.index(options.level) :]
        native_library.runnable_levels = lambda: below
    save(options.paths[0], options.engines.split(","))


if __name__ == "__main__":
    main()
