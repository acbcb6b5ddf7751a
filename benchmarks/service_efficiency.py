"""Measures which share of the kernel engine's own speed a whole KIP run reaches.

    python benchmarks/service_efficiency.py --data_dir=DIR [--steps=100] [--num_workers=1]

Runs `kipper distill` on MNIST with convnet and 10 images with learned labels in a separate process,
between two measurements of the engine: the time per pair forward, and with its vjp in one call, at
16 by 256 images on all cores, variance maps included. Efficiency is the time of the run's pairs at
these rates, over the time of the run from the first block to the last evaluation, set-up and
compilation included.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from kernel_engines import engine_timing

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.cores import usable_cores
from kipper.server.workdir import Workdir
from kipper.workers.choice import make_engine


def engine_milliseconds_per_pair() -> tuple[float, float]:
    """The engine's time per pair: forward, and forward with vjp."""
    spec = KernelSpec(architecture_named("convnet"), "ntk", "float32")
    engine = make_engine("banded_cpu", spec, usable_cores())
    return engine_timing(engine, (28, 28, 1), (16, 256), "float32", repeats=8)


def run(options: argparse.Namespace, workdir: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs kipper; returns result.json and the first evaluation's record."""
    subprocess.run(
        [
            *(pathlib.Path(sys.executable).parent / "kipper", "distill", f"--workdir={workdir}"),
            *("--dataset=mnist", f"--data_dir={options.data_dir}", "--architecture=convnet"),
            *("--support_size=10", "--learn_labels", f"--steps={options.steps}"),
            *(f"--eval_every={options.steps}", f"--num_workers={options.num_workers}"),
        ],
        check=True,
    )
    folder = Workdir(workdir)
    return json.loads(folder.result.read_text()), folder.read_records(folder.metrics)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--num_workers", type=int, default=1)
    options = parser.parse_args()
    before = engine_milliseconds_per_pair()
    with tempfile.TemporaryDirectory() as workdir:
        result, first = run(options, workdir)
    after = engine_milliseconds_per_pair()
    forward, with_vjp = np.mean([before, after], axis=0)
    forward_only = result["kernel_pairs"] - result["vjp_pairs"]
    at_engine_speed = 1e-3 * (result["vjp_pairs"] * with_vjp + forward_only * forward)
    report = {
        "engine_ms_per_pair": {"before": before, "after": after},
        "kernel_pairs": result["kernel_pairs"],
        "vjp_pairs": result["vjp_pairs"],
        "pairs_per_second": result["pairs_per_second"],
        "seconds": result["seconds"],
        "seconds_of_set_up_and_first_evaluation": first["seconds"],
        "seconds_at_engine_speed": at_engine_speed,
        "efficiency": at_engine_speed / result["seconds"],
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
