"""Measures which share of the kernel engine's speed a whole KIP run reaches, and what the rest is.

    python benchmarks/service_efficiency.py [--dataset=mnist --data_dir=DIR] [--steps=100]
        [--num_workers=1] [--launch=inprocess] [--flags=FLAG,FLAG…]

Runs `kipper distill` with convnet and 10 images with learned labels in a separate process, between
two measurements of the engine: the time per pair forward, and with its vjp in one call, at 16 by
256 images on all cores, variance maps included. Efficiency is the time of the run's pairs at these
rates, over the time of the run from the first block to the last evaluation, set-up and compilation
included. `rest` divides the difference, by the scheduler's log. `engine_in_blocks` is the engine's
time per pair of a step in blocks of the run's shapes, where K and vjp are two calls, over that of
one call at 16 by 256.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from kernel_engines import engine_timing, images, prepared, seconds

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.cores import usable_cores
from kipper.server.scheduler import events
from kipper.server.scheduler.event_log import read_record
from kipper.server.workdir import Workdir
from kipper.workers.choice import make_engine

SHAPE, SUPPORT, TARGETS = (28, 28, 1), 10, 250  # of a block of the run
SPEC = KernelSpec(architecture_named("convnet"), "ntk", "float32")


def engine_milliseconds_per_pair() -> tuple[float, float]:
    """The engine's time per pair: forward, and forward with vjp."""
    engine = make_engine("banded_cpu", SPEC, usable_cores())
    return engine_timing(engine, SHAPE, (16, 256), "float32", repeats=8)


def step_in_blocks(threads: int) -> float:
    """The engine's milliseconds of core time per pair of a step, K first and then the vjp."""
    engine = make_engine("banded_cpu", SPEC, threads)
    support = prepared(engine, images(SHAPE, SUPPORT, 0, "float32"))
    targets = prepared(engine, images(SHAPE, TARGETS, 1, "float32"))
    total = 0.0
    for columns, both, count in ((targets, False, 2), (support, True, 1)):
        cotangent = np.ones((SUPPORT, len(columns.images)), np.float32)

        def act(columns=columns, both=both, cotangent=cotangent) -> None:
            engine.linearise(support, columns, both)[1](cotangent)

        total += count * seconds(act, repeats=8)
    return 1e3 * total * threads / (SUPPORT * (2 * TARGETS + SUPPORT))


def run(options: argparse.Namespace, workdir: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs kipper; returns result.json and the first evaluation's record."""
    subprocess.run(
        [
            *(pathlib.Path(sys.executable).parent / "kipper", "distill", f"--workdir={workdir}"),
            *(
                f"--dataset={options.dataset}",
                "--architecture=convnet",
                f"--launch={options.launch}",
            ),
            *([f"--data_dir={options.data_dir}"] if options.data_dir else []),
            *(f"--support_size={SUPPORT}", "--learn_labels", f"--steps={options.steps}"),
            *(f"--eval_every={options.steps}", f"--num_workers={options.num_workers}"),
            *(f"--{flag}" for flag in options.flags.split(",") if flag),
        ],
        check=True,
    )
    folder = Workdir(workdir)
    return json.loads(folder.result.read_text()), folder.read_records(folder.metrics)[0]


def idle_seconds(log: pathlib.Path) -> dict[str, float]:
    """By a scheduler's log: the seconds of the run without a block out, and in which some are idle.

    Seconds of some of the workers count in part.
    """
    out: dict[str, set[int]] = {}
    kinds: dict[int, str] = {}
    idle: dict[str, float] = collections.defaultdict(float)
    before, last = None, "set-up"
    for line in log.read_text().split("\n")[1:-1]:
        now, event, instructions = read_record(line)
        busy = sum(1 for blocks in out.values() if blocks)
        if before is not None:
            name = f"after {last}" if busy == 0 else "some workers idle"
            idle[name] += (now - before) * (1 - busy / max(1, len(out)))
        before = now
        match event:
            case events.WorkerJoined(worker):
                out[worker] = set()
            case events.WorkerLeft(worker):
                out.pop(worker, None)
            case events.BlocksQueued(specs):
                kinds |= {each.block: each.kind for each in specs if not each.optional}
            case events.BlockFinished(worker, block) | events.BlockFailed(worker, block):
                out.get(worker, set()).discard(block)
                last = kinds.get(block, last)
        for each in instructions:
            if isinstance(each, events.SendBlock) and each.block in kinds:
                out[each.worker].add(each.block)
    return {name: round(value, 2) for name, value in idle.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data_dir")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--num_workers", type=int, default=1)
    parser.add_argument("--launch", default="inprocess")
    parser.add_argument("--flags", default="", help="further flags of distill, without dashes")
    options = parser.parse_args()
    before = engine_milliseconds_per_pair()
    with tempfile.TemporaryDirectory() as workdir:
        result, first = run(options, workdir)
        idle = idle_seconds(Workdir(workdir).logs / "events.jsonl")
    after = engine_milliseconds_per_pair()
    forward, with_vjp = np.mean([before, after], axis=0)
    forward_only = result["kernel_pairs"] - result["vjp_pairs"]
    at_engine_speed = 1e-3 * (result["vjp_pairs"] * with_vjp + forward_only * forward)
    threads = max(1, usable_cores() // options.num_workers)
    in_blocks = step_in_blocks(threads) / usable_cores()
    blocks = result["seconds"] - at_engine_speed - sum(idle.values())
    report = {
        "engine_ms_per_pair": {"before": before, "after": after},
        "engine_in_blocks": round(in_blocks / with_vjp, 3),
        "kernel_pairs": result["kernel_pairs"],
        "vjp_pairs": result["vjp_pairs"],
        "pairs_per_second": result["pairs_per_second"],
        "seconds": result["seconds"],
        "seconds_of_set_up_and_first_evaluation": first["seconds"],
        "seconds_at_engine_speed": at_engine_speed,
        "efficiency": at_engine_speed / result["seconds"],
        "rest": {"blocks that take longer": round(blocks, 2), **idle},
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
