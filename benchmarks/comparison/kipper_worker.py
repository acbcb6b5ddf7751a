"""Runs a real `kipper worker` with an engine that computes the comparison's blocks.

    python kipper_worker.py WORKLOAD_JSON COORDINATOR [NAME]

Without a name it runs all of the workload's workers, each under kipper's supervisor. Pixels are
numbered, so the first column identifies the block. Blocks beyond the workload are for warming up.
"""

import sys

import numpy as np
from workload import COLUMNS, Workload, block_values, run_block

from kipper.common.settings import WorkerSettings
from kipper.launch.link.worker_process import run_worker
from kipper.launch.processes.process import keep_freed_memory
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import local_command, run_all
from kipper.workers import worker
from kipper.workers.engine import PreparedImages


class WorkloadEngine:
    """An engine whose `block` returns the workload's numbers."""

    name = "workload"

    def __init__(self, workload: Workload):
        self._workload = workload

    def features(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), 0), images.dtype)

    def block(self, _x1: PreparedImages, x2: PreparedImages) -> np.ndarray:
        index = int(x2.images[0, 0, 0, 0]) // COLUMNS
        if index >= self._workload.blocks:
            return block_values(index)
        return run_block(self._workload, index)

    def residual_bytes(self, *_: object) -> None:
        return None


def supervise(workload: Workload) -> None:
    command = [sys.executable, *sys.argv]
    names = [f"worker-{number}" for number in range(workload.workers)]
    run_all([local_command(name, [*command, name]) for name in names], StopRequest())


def main() -> None:
    if len(sys.argv) == 3:
        supervise(Workload.from_json(sys.argv[1]))
        return
    engine = WorkloadEngine(Workload.from_json(sys.argv[1]))
    worker.make_engine = lambda *_: engine
    keep_freed_memory()
    run_worker(WorkerSettings(coordinator=sys.argv[2], name=sys.argv[3]))


if __name__ == "__main__":
    main()
