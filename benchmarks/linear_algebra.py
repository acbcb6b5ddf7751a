"""Measures what kipper's own linear algebra costs, next to numpy and scipy with OpenBLAS.

    python benchmarks/linear_algebra.py [--sizes=10,100,500,3072] [--images=10000] [--repeats=3]

Each task runs with the library and with OpenBLAS in turn, both with one thread; the least processor
time of each counts, which other processes on the machine hardly change. ZCA takes about 1 GB.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np

from kipper.common import linalg
from kipper.common.preprocessing import fit_preprocessing
from kipper.common.processor import instruction_sets
from kipper.server import krr, label_solve

Task = tuple[str, Callable[[], object]]


def functions(size: int) -> list[Task]:
    """The functions of `linalg` on matrices of one size."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, size, size))
    positive = linalg.gram(a) / size + np.eye(size)
    factor, right = linalg.cholesky(positive), rng.normal(size=(size, 10))
    single = a.astype(np.float32)
    return [
        (f"matmul, {size}", lambda: linalg.matmul(a, b)),
        (f"matmul in float32, {size}", lambda: linalg.matmul(single, single)),
        (f"gram, {size}", lambda: linalg.gram(a)),
        (f"cholesky, {size}", lambda: linalg.cholesky(positive)),
        (f"cholesky_solve of 10 columns, {size}", lambda: linalg.cholesky_solve(factor, right)),
        (f"eigh, {size}", lambda: linalg.eigh(positive)),
        (f"eigvalsh, {size}", lambda: linalg.eigvalsh(positive)),
    ]


def regressions(num_support: int, num_targets: int) -> list[Task]:
    """The coordinator's share of a KIP step and of Label Solve, with ten classes."""
    rng = np.random.default_rng(0)
    support, target = (
        rng.normal(size=(count, num_support)) for count in (num_support, num_targets)
    )
    k_ss, k_ts = linalg.gram(support.T), linalg.matmul(target, support.T)
    y_s, y_t = rng.normal(size=(num_support, 10)), rng.normal(size=(num_targets, 10))

    def solve() -> np.ndarray:
        moments = label_solve.batch_moments(k_ts, y_t)
        return label_solve.solve_labels(k_ss, moments, 1e-6, "paper")

    shape = f"{num_support} x {num_targets}"
    return [
        (f"KIP step, {shape}", lambda: krr.regress(k_ss, k_ts, y_s, y_t, 1e-6)),
        (f"Label Solve, {shape}", solve),
    ]


def whitening(num_images: int) -> list[Task]:
    """ZCA of images of CIFAR-10's size."""
    images = np.random.default_rng(0).random((num_images, 32, 32, 3), np.float32)
    fitted = fit_preprocessing("zca", images)
    name = f"of {num_images} images of 32 x 32 x 3"
    return [
        (f"ZCA, fit {name}", lambda: fit_preprocessing("zca", images)),
        (f"ZCA, apply {name}", lambda: fitted.apply(images)),
    ]


def seconds(task: Callable[[], object]) -> float:
    """The processor time of a call, on average over as many as fit into 20 milliseconds."""
    started, calls = time.process_time(), 0
    while calls == 0 or time.process_time() < started + 0.02:
        task()
        calls += 1
    return (time.process_time() - started) / calls


def measure(name: str, task: Callable[[], object], repeats: int) -> None:
    """Prints a row of the table."""
    ways = {"own": instruction_sets(), "OpenBLAS": ()}
    least = dict.fromkeys(ways, np.inf)
    for _ in range(repeats):
        for way, levels in ways.items():
            linalg.instruction_sets = lambda levels=levels: levels
            least[way] = min(least[way], seconds(task))
    linalg.instruction_sets = instruction_sets
    own, other = (1e3 * least[way] for way in ways)
    print(f"| {name} | {own:.3g} ms | {other:.3g} ms | {own / other:.2g} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10,100,500,3072")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    assert linalg.unavailable() is None
    linalg._blas()  # its limit would otherwise fall into the first measurement
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("| task | own | OpenBLAS | ratio |")
    print("| --- | --- | --- | --- |")
    for num_support, num_targets in ((100, 5000), (500, 5000)):
        for name, task in regressions(num_support, num_targets):
            measure(name, task, arguments.repeats)
    for size in map(int, arguments.sizes.split(",")):
        for name, task in functions(size):
            measure(name, task, arguments.repeats)
    if arguments.images:
        for name, task in whitening(arguments.images):
            measure(name, task, 1)


if __name__ == "__main__":
    main()
