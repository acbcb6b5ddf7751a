"""Measures errors of float32 kernels of images that nearly coincide, by family and closeness.

    python benchmarks/near_pairs.py --engine=banded_cpu|banded_xla|dense [--architecture=convnet3]
        [--image=8x8x3] [--seeds=4] [--scale=1]

Prints a table with a row for each family of tests/near_images.py and a column for each closeness.
Each cell has the largest error of K relative to its largest entry, of 1 - cos relative to itself,
and of the gradient of the pair's entry, all against float64; "-" where float32 cannot tell the
images apart. A `!` marks K that is not positive definite with the default ridge although it is in
float64. The engine is that of the kipper on PYTHONPATH, so that two versions can be compared.
"""

import argparse
import pathlib
import sys

import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages

sys.path.append(str(pathlib.Path(__file__).parent.parent / "tests"))
from near_images import CLOSENESS, FAMILIES, near_pair, pair_errors

RIDGE = 1e-6


def results(engine: Engine, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K (2, 2), and the gradient of its entry (0, 1) with respect to both images."""
    both = PreparedImages(pair, engine.features(pair))
    cotangent = np.array([[0, 1], [0, 0]], pair.dtype)
    kernel, (first, second) = engine.block_vjp(both, both, cotangent, both=True)
    return np.array(kernel), np.stack([first[0], second[1]])


def solvable(kernel: np.ndarray) -> bool:
    """Whether K, of which the upper triangle counts, is positive definite with the ridge."""
    exact = kernel.astype(float)
    exact[1, 0] = exact[0, 1]
    exact += RIDGE * np.trace(exact) / 2 * np.eye(2)
    return bool(np.linalg.eigvalsh(exact)[0] > 0)


def cell(
    engines: tuple[Engine, Engine],
    family: str,
    closeness: float,
    shape: tuple[int, int, int],
    seeds: int,
    scale: float,
) -> str:
    """The largest errors of some pairs."""
    found, mark = [], ""
    for seed in range(seeds):
        pair = near_pair(family, closeness, shape, np.random.default_rng(seed), scale)
        if np.array_equal(*pair):
            continue
        single, double = (
            results(engine, pair.astype(dtype))
            for engine, dtype in zip(engines, ("float32", "float64"), strict=True)
        )
        errors = pair_errors(single, double)
        distance = errors.distance_error / max(errors.distance, 1e-300)
        found.append((errors.kernel, distance, errors.gradient))
        if solvable(double[0]) and not solvable(single[0]):
            mark = " !"
    if not found:
        return "-"
    return ", ".join("0" if not error else f"{error:.0e}" for error in np.max(found, 0)) + mark


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="banded_cpu")
    parser.add_argument("--architecture", default="convnet3")
    parser.add_argument("--image", default="8x8x3")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    height, width, channels = map(int, options.image.split("x"))
    single, double = (
        make_engine(
            options.engine, KernelSpec(architecture_named(options.architecture), "ntk", dtype), 2
        )
        for dtype in ("float32", "float64")
    )
    print(f"| {options.engine}, {options.architecture} |", *(f"{c:.0e} |" for c in CLOSENESS))
    print("| --- |", *("--- |" for _ in CLOSENESS))
    for family in FAMILIES:
        cells = (
            cell(
                (single, double),
                family,
                closeness,
                (height, width, channels),
                options.seeds,
                options.scale,
            )
            for closeness in CLOSENESS
        )
        print(f"| {family} |", *(f"{text} |" for text in cells), flush=True)


if __name__ == "__main__":
    main()
