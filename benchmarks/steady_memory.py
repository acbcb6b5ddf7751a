"""Samples memory, descriptors and threads of a run's processes over many steps.

    python benchmarks/steady_memory.py [--steps=6000] [--num_workers=2] [--seconds=5]
        [-- FLAGS OF DISTILL]

A `local_mp` run with its live page and event log. Prints one JSON object: for each role (such as
coordinator and worker) the largest values in the second and in the last tenth of its steps, in
MiB of resident memory, open descriptors and threads. The first tenth is left out: it compiles.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import psutil

_FLAGS = (
    *("--dataset=digits", "--architecture=fc1", "--support_size=10", "--learn_labels"),
    *("--target_batch_size=50", "--eval_every=100"),
)


def role_of(pid: int) -> str | None:
    """The role of a process of the run: the folder of its log."""
    with contextlib.suppress(OSError):
        for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            _, found, path = os.readlink(file).partition("/logs/")
            if found and "/" in path:
                return path.partition("/")[0]
    return None


def sample(main: psutil.Process) -> dict[str, tuple[float, int, int]]:
    """MiB, descriptors and threads by role; the largest of the processes with one role."""
    found: dict[str, tuple[float, int, int]] = {}
    for process in [main, *main.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            role = "launcher" if process == main else role_of(process.pid)
            if role is not None:
                memory = process.memory_info().rss / 2**20
                new = memory, process.num_fds(), process.num_threads()
                old = found.get(role, new)
                found[role] = (max(old[0], new[0]), max(old[1], new[1]), max(old[2], new[2]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("flags", nargs="*", default=_FLAGS)
    options = parser.parse_args()
    tenths: dict[int, dict[str, tuple[float, int, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        status = pathlib.Path(folder) / "status.json"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "kipper", "distill", f"--workdir={folder}"),
                *(f"--steps={options.steps}", "--launch=local_mp", *options.flags),
                f"--num_workers={options.num_workers}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        main_process = psutil.Process(process.pid)
        while process.poll() is None:
            time.sleep(options.seconds)
            with contextlib.suppress(OSError, ValueError):
                step = json.loads(status.read_text()).get("step") or 0
                tenth = tenths.setdefault(min(9, 10 * step // options.steps), {})
                for role, new in sample(main_process).items():
                    old = tenth.get(role, new)
                    tenth[role] = (max(old[0], new[0]), max(old[1], new[1]), max(old[2], new[2]))
    columns = ("mib", "descriptors", "threads")
    report = {
        role: {
            "second_tenth": dict(zip(columns, map(round, tenths[1][role]), strict=True)),
            "last_tenth": dict(zip(columns, map(round, tenths[9][role]), strict=True)),
        }
        for role in sorted(tenths.get(1, {}).keys() & tenths.get(9, {}).keys())
    }
    print(json.dumps({"status": process.returncode, "steps": options.steps, **report}, indent=1))
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
