"""Compares the estimates of `kipper bench distill` with runs: a table of docs/results.md.

    python benchmarks/estimates.py --data_dir=DIR

Estimates each run before and after it, since other programs may start or end meanwhile, each in a
separate process.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

MNIST = ["--dataset=mnist", "--architecture=convnet"]
RUNS = {
    "KIP, mnist5k, fc1, 1000 steps": [
        "distill",
        "--dataset=mnist5k",
        "--support_size=10",
        "--learn_labels",
        "--steps=1000",
    ],
    "KIP, mnist, convnet, 60 steps": [
        "distill",
        *MNIST,
        "--support_size=10",
        "--steps=60",
        "--test_limit=1000",
    ],
    "Label Solve, mnist, convnet, 5,000 targets": [
        "solve_labels",
        *MNIST,
        "--support_size=50",
        "--train_limit=5000",
        "--test_limit=1000",
    ],
}


def estimate(flags: list[str], workdir: pathlib.Path) -> dict:
    command = [sys.executable, "-m", "kipper", "bench", *flags, "--json", f"--workdir={workdir}"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def run(flags: list[str], workdir: pathlib.Path) -> tuple[dict, int]:
    """result.json, and the peak memory of the process in bytes."""
    command = [sys.executable, "-m", "kipper", *flags, f"--workdir={workdir}", "--dashboard=none"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, flags
    return json.loads((workdir / "result.json").read_text()), usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--only", default="", help="only runs whose name contains this")
    given = parser.parse_args()
    print("| run | estimate, s | run, s | ratio | memory, MiB | at the peak | checkpoints, KiB | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, flags in RUNS.items():
        if given.only not in name:
            continue
        flags = [*flags, f"--data_dir={given.data_dir}"]
        with tempfile.TemporaryDirectory() as folder:
            before = estimate(flags, pathlib.Path(folder, "other"))
            result, peak = run(flags, pathlib.Path(folder, "run"))
            after = estimate(flags, pathlib.Path(folder, "other"))
            files = pathlib.Path(folder, "run", "checkpoints").rglob("*")
            kept = sum(file.stat().st_size for file in files if file.is_file())
        pairs = ("kernel_pairs", "vjp_pairs")
        assert [before[key] for key in pairs] == [result[key] for key in pairs]
        said = statistics.mean((before["seconds"], after["seconds"]))
        print(
            f"| {name} | {before['seconds']:.1f}, {after['seconds']:.1f} | {result['seconds']:.1f} "
            f"| {result['seconds'] / said:.2f} | {before['memory_bytes']['process'] / 2**20:.0f} "
            f"| {peak / 2**20:.0f} | {before['checkpoint_bytes'] / 2**10:.0f} "
            f"| {kept / 2**10:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
