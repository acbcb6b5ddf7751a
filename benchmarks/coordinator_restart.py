"""Measures what a run recomputes after SIGKILL of `kipper distill` and the same command again.

    python benchmarks/coordinator_restart.py [--kills=3] [--steps=200] [-- FLAGS OF DISTILL]

Makes one undisturbed run, then one that is killed `--kills` times, evenly spread over the time of
the first. Recomputed pairs are the kernel pairs that the killed coordinator had counted (in
status.json, written about once a second) since the checkpoint that the next one resumes from.
Prints one JSON object.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from kipper.server.workdir import Workdir

DEFAULT_FLAGS = (
    "--dataset=digits",
    "--architecture=convnet",
    "--support_size=20",
    "--target_batch_size=500",
    "--eval_every=50",
    "--launch=inprocess",
)


def start(workdir: pathlib.Path, steps: int, flags: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "kipper", "distill", f"--workdir={workdir}"),
            *(f"--steps={steps}", *flags),
        ],
        stdout=subprocess.DEVNULL,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise SystemExit(f"kipper distill ended with status {process.returncode}.")


def kept_pairs(folder: Workdir) -> int:
    """Kernel pairs at the newest checkpoint; 0 if there is none."""
    manifests = sorted(folder.checkpoints.glob("step-*/manifest.json"))
    return json.loads(manifests[-1].read_text())["counters"]["kernel_pairs"] if manifests else 0


def kill(workdir: pathlib.Path, after: float, steps: int, flags: list[str]) -> dict[str, Any]:
    """Runs a coordinator for `after` seconds and ends it by SIGKILL."""
    process = start(workdir, steps, flags)
    time.sleep(after)
    if process.poll() is not None:
        raise SystemExit("The run was over before it could be killed; give more --steps.")
    process.kill()
    process.wait()
    folder = Workdir(workdir)
    try:
        status = json.loads(folder.status.read_text())
    except FileNotFoundError:
        status = {}
    counted, kept = status.get("kernel_pairs", 0), kept_pairs(folder)
    return {
        "seconds": after,
        "step": status.get("step"),
        "pairs": counted,
        "recomputed_pairs": max(0, counted - kept),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("flags", nargs="*", default=DEFAULT_FLAGS)
    options = parser.parse_args()
    flags = list(options.flags)
    with tempfile.TemporaryDirectory() as parent:
        quiet, killed = pathlib.Path(parent) / "quiet", pathlib.Path(parent) / "killed"
        started = time.monotonic()
        finish(start(quiet, options.steps, flags))
        quiet_seconds = time.monotonic() - started
        between = quiet_seconds / (options.kills + 1)
        started = time.monotonic()
        lives = [kill(killed, between, options.steps, flags) for _ in range(options.kills)]
        finish(start(killed, options.steps, flags))
        killed_seconds = time.monotonic() - started
        distilled = [Workdir(folder).distilled.read_bytes() for folder in (quiet, killed)]
        total = json.loads(Workdir(quiet).result.read_text())["kernel_pairs"]
    report = {
        "flags": [f"--steps={options.steps}", *flags],
        "quiet_seconds": round(quiet_seconds, 1),
        "killed_seconds": round(killed_seconds, 1),
        "lives": lives,
        "recomputed_share": sum(life["recomputed_pairs"] for life in lives) / total,
        "same_bits": distilled[0] == distilled[1],
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
