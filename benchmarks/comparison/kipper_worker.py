"""A `kipper worker` whose kernel engine does the comparison's blocks; all else is the real one.

    python kipper_worker.py WORKLOAD_JSON COORDINATOR [NAME]

Without a name: as many as the workload has workers, each under kipper's supervisor.
Columns are numbered pixels, so the first one tells which block is meant. Blocks past the workload
warm the worker up.
"""

import sys

import numpy as np
from workload import COLUMNS, Workload, block_values, run_block

from kipper.common.settings import WorkerSettings
from kipper.launch.link.worker_process import run_worker
from kipper.launch.processes.process import keep_freed_memory
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import Supervisor, run_all
from kipper.workers import worker
from kipper.workers.engine import PreparedImages


class WorkloadEngine:
    """Answers `block` with the workload's numbers."""

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
    run_all([Supervisor(name, [*command, name]) for name in names], StopRequest())


def main() -> None:
    if len(sys.argv) == 3:
        supervise(Workload.from_json(sys.argv[1]))
        return
    engine = WorkloadEngine(Workload.from_json(sys.argv[1]))
    worker.make_engine = lambda *_: engine  # type: ignore[assignment]
    keep_freed_memory()
    run_worker(WorkerSettings(coordinator=sys.argv[2], name=sys.argv[3]))


if __name__ == "__main__":
    main()
