"""Measures how long a run stands still when one of its workers falls silent, and compares the bits.

    python benchmarks/silent_worker.py [--workers=2] [--seconds=45] [--fraction=0.2]

A coordinator and worker processes talk over grpc_tls. When the run is under way, one worker is
stopped (SIGSTOP), as if its cable were cut, and continued after `--seconds`. The longest pause
between two answers that were accepted is read from the scheduler's log. The result must have the
bits of a run in one process. Prints one JSON object.
"""

import argparse
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from kipper.launch.link.transports.addresses import free_port
from kipper.server.scheduler.event_log import read_record
from kipper.server.scheduler.events import AcceptAnswer
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

KIPPER = (sys.executable, "-m", "kipper")
FLAGS = (
    "--dataset=digits",
    "--architecture=convnet",
    "--support_size=20",
    "--target_batch_size=200",
    "--block_support=10",
    "--block_target=50",
    "--engine=banded_cpu",
    "--threads=1",
)
# A run that is stopped while it starts would show the set-up's patience instead.
STEPS_BEFORE = 20


def distill(workdir: Workdir, steps: int, *flags: str) -> "subprocess.Popen[bytes]":
    command = (*KIPPER, "distill", f"--workdir={workdir.path}", f"--steps={steps}", *FLAGS, *flags)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def wait_for_step(workdir: Workdir, step: int) -> None:
    while True:
        status = read_status(workdir.status)
        if status is not None and (status.step or 0) >= step:
            return
        time.sleep(0.1)


def longest_pause(workdir: Workdir) -> float:
    """Seconds between two answers that were accepted."""
    lines = (workdir.logs / "events.jsonl").read_text().splitlines()[1:]
    records = map(read_record, lines)
    times = [r.now for r in records if any(isinstance(i, AcceptAnswer) for i in r.instructions)]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--fraction", type=float, default=0.2)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent)
        certificates = f"--certificates={folder / 'certificates'}"
        subprocess.run([*KIPPER, "certificates", str(folder / "certificates")], check=True)
        over_tls = ("--transport=grpc_tls", certificates)
        quiet, silent = Workdir(folder / "quiet"), Workdir(folder / "silent")
        if distill(quiet, options.steps).wait() != 0:
            raise SystemExit("The quiet run failed.")
        port = free_port()
        run = distill(
            silent,
            options.steps,
            "--num_workers=0",
            f"--port={port}",
            f"--verify_fraction={options.fraction}",
            *over_tls,
        )
        join = (*KIPPER, "worker", f"--coordinator=127.0.0.1:{port}", "--threads=1", *over_tls)
        workers = [subprocess.Popen([*join, f"--name=w{i}"]) for i in range(options.workers)]
        try:
            wait_for_step(silent, STEPS_BEFORE)
            os.kill(workers[0].pid, signal.SIGSTOP)
            time.sleep(options.seconds)
            os.kill(workers[0].pid, signal.SIGCONT)
            status = run.wait()
        finally:
            for process in (run, *workers):
                process.kill()
        if status != 0:
            raise SystemExit(f"The run ended with status {status}.")
        bits = [each.distilled.read_bytes() for each in (quiet, silent)]
        report = {
            **vars(options),
            "longest_pause_seconds": round(longest_pause(silent), 2),
            "same_bits": bits[0] == bits[1],
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
