"""Compares the native convolutional engine of this tree with that of another, in turns.

    python benchmarks/engine_versions.py --other=DIR [--cases=convnet:28x28x1,myrtle5:32x32x3]
        [--rows=10] [--columns=500] [--rounds=7] [--threads=2] [--json]

DIR holds another version of kipper as its root, with its native libraries built. Each version runs
in a process of its own, and they take turns call by call, so that other work on the machine slows
both. Times are milliseconds per pair of images, float32 NTK, the shortest of all rounds: "K", "K
with vjp" in one call, and "step", which is what a step of KIP calls: K with what may be kept of it,
then its vjp with respect to the rows. The rows' variance maps are included, those of the columns,
which a run computes once, are not. "share" is the rate of this tree's arithmetic over that of a
large float32 matrix product; operations are counted as in kernel_scaling.py.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PARTS = ("K", "K with vjp", "step")


def serve() -> None:
    """The process of one version: times a part of a case for each line of its input."""
    from kipper.common.architecture import KernelSpec, architecture_named
    from kipper.workers.choice import make_engine
    from kipper.workers.engine import PreparedImages

    runs: dict[str, dict[str, Callable[[], Any]]] = {}

    def prepare(case: str, rows: int, columns: int, threads: int) -> dict[str, Callable[[], Any]]:
        architecture, image = case.split(":")
        shape = tuple(int(side) for side in image.split("x"))
        engine = make_engine(
            "banded_cpu", KernelSpec(architecture_named(architecture), "ntk", "float32"), threads
        )
        rng = np.random.default_rng(0)
        x1 = rng.normal(size=(rows, *shape)).astype(np.float32)
        x2 = rng.normal(size=(columns, *shape)).astype(np.float32)
        cotangent = rng.normal(size=(rows, columns)).astype(np.float32)
        targets = PreparedImages(x2, engine.features(x2))

        def support() -> PreparedImages:
            return PreparedImages(x1, engine.features(x1))

        def step() -> None:
            prepared = support()
            if engine.residual_bytes(prepared, targets, False) is None:
                engine.block(prepared, targets)
                engine.block_vjp(prepared, targets, cotangent, both=False)
            else:
                _, pullback = engine.linearise(prepared, targets, False)
                pullback(cotangent)

        return {
            "K": lambda: engine.block(support(), targets),
            "K with vjp": lambda: engine.block_vjp(support(), targets, cotangent, both=False),
            "step": step,
        }

    for line in sys.stdin:
        case, rows, columns, threads, part = json.loads(line)
        if case not in runs:
            runs[case] = prepare(case, rows, columns, threads)
        started = time.perf_counter()
        runs[case][part]()
        milliseconds = 1e3 * (time.perf_counter() - started)
        print(json.dumps(milliseconds / (rows * columns)), flush=True)


class Version:
    """A process that serves one version of kipper."""

    def __init__(self, root: pathlib.Path, folder: str):
        (pathlib.Path(folder) / "kipper").symlink_to(root.resolve())
        environment = {**os.environ, "PYTHONPATH": folder}
        self._process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def milliseconds_per_pair(self, *request: str | int) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.communicate()


def compare(case: str, versions: list[Version], options: argparse.Namespace) -> dict[str, Any]:
    """The times of both versions for one case, this tree's first, and their ratios."""
    request = (case, options.rows, options.columns, options.threads)
    report: dict[str, Any] = {"case": case}
    for part in PARTS:
        times = [
            [version.milliseconds_per_pair(*request, part) for version in versions]
            for _ in range(options.rounds)
        ]
        new, old = np.min(times, axis=0)
        report[part] = {"new": new, "old": old, "ratio": old / new}
    return report


def add_shares(report: dict[str, Any], peak: float) -> None:
    """Adds the shares of the rate `peak` of a matrix product, in GFLOP/s."""
    from kernel_scaling import FLOPS, elements

    from kipper.common.architecture import architecture_named
    from kipper.workers.bands import banded_network

    architecture, image = report["case"].split(":")
    height, width = (int(side) for side in image.split("x")[:2])
    network = banded_network(architecture_named(architecture), height, width)
    assert network is not None
    count = elements(network)
    for part, flops in (("K", FLOPS["forward"]), ("K with vjp", FLOPS["vjp"])):
        report[part]["share"] = 1e-6 * count * flops / report[part]["new"] / peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=pathlib.Path)
    parser.add_argument("--cases", default="convnet:16x16x3,convnet:28x28x1,convnet:32x32x3")
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--columns", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON only, without the table")
    parser.add_argument("--serve", action="store_true", help="used by the script itself")
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.other is None:
        parser.error("--other=DIR is needed: the root of the other version")
    from kernel_scaling import matrix_product_gflops

    here = pathlib.Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as new, tempfile.TemporaryDirectory() as old:
        versions = [Version(here, new), Version(options.other, old)]
        reports = [compare(case, versions, options) for case in options.cases.split(",")]
        for version in versions:
            version.stop()
    peak = matrix_product_gflops()
    for report in reports:
        add_shares(report, peak)
        if not options.json:
            for part in PARTS:
                times = report[part]
                share = f", share {times['share']:.2f}" if "share" in times else ""
                print(
                    f"{report['case']:18} {part:10} old {times['old']:.4f} ms, "
                    f"new {times['new']:.4f} ms: {times['ratio']:.2f} times as fast{share}"
                )
    print(json.dumps({"cases": reports, "matrix_product_gflops": peak}))


if __name__ == "__main__":
    main()
