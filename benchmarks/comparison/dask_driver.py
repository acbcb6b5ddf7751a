"""Runs the workload with dask.distributed, by `dask scheduler` and `dask worker`.

Both commands are restarted when they end, as an init system or Kubernetes would do. The client
takes results as they complete. It resubmits the blocks lost with a scheduler, which dask does not.
"""

import contextlib
import functools
import subprocess
import sys
import threading
import time
import uuid

import distributed
import numpy as np
from driving import Driving, free_port
from workload import block_values, run_block

_READY_SECONDS = 120.0


class RestartedCommand:
    """A command that is restarted whenever it ends."""

    def __init__(self, name: str, arguments: list[str], restarted: list[str]):
        self._command = [sys.executable, "-m", f"distributed.cli.{name}", *arguments]
        self._name = name
        self._restarted = restarted
        self._closing = False
        self.process = subprocess.Popen(self._command)
        threading.Thread(target=self._restart_forever, daemon=True).start()

    def close(self) -> None:
        self._closing = True
        self.process.kill()

    def _restart_forever(self) -> None:
        while True:
            self.process.wait()
            if self._closing:
                return
            self._restarted.append(f"{self._name} ended and was restarted")
            time.sleep(0.5)
            self.process = subprocess.Popen(self._command)


class SchedulerLost(Exception):
    """The scheduler has forgotten its tasks."""


def take_all(client: distributed.Client, driving: Driving, blocks: dict[int, np.ndarray]) -> None:
    """Submits the blocks missing from `blocks` and adds them as they complete.

    Raises:
        SchedulerLost: futures were cancelled, which the client does when its connection ends.
            Futures whose results were in flight may never complete, so do not wait for the others.
    """
    missing = [index for index in range(driving.workload.blocks) if index not in blocks]
    run = functools.partial(run_block, driving.workload)
    token = uuid.uuid4()
    keys = [f"run_block-{token}-{index}" for index in missing]  # named as dask would name them
    # No other reference to the futures exists, so dask forgets a result once it has arrived.
    # Otherwise dask would compute it again when its worker dies.
    completed = distributed.as_completed(client.map(run, missing, key=keys), with_results=True)
    for future, block in completed:
        if not isinstance(block, np.ndarray):
            raise SchedulerLost(type(block).__name__)
        blocks[int(future.key.rpartition("-")[2])] = block


def connect(address: str, workers: int) -> distributed.Client:
    client = distributed.Client(address, timeout=_READY_SECONDS)
    client.wait_for_workers(workers, timeout=_READY_SECONDS)
    return client


def main() -> None:
    driving = Driving()
    workload = driving.workload
    address = f"tcp://127.0.0.1:{free_port()}"
    local = ["--local-directory", str(driving.control), "--no-dashboard"]
    port = address.rpartition(":")[2]
    scheduler = RestartedCommand(
        "dask_scheduler", ["--host", "127.0.0.1", "--port", port, "--no-dashboard"], driving.remarks
    )
    workers = RestartedCommand(
        "dask_worker",
        [address, "--nworkers", str(workload.workers), "--nthreads", "1", *local],
        driving.remarks,
    )
    client = connect(address, workload.workers)
    client.gather(client.map(block_values, range(4 * workload.workers), pure=False))
    driving.head_is([scheduler.process.pid])
    blocks: dict[int, np.ndarray] = {}
    with driving.measured():
        while len(blocks) < workload.blocks:
            try:
                take_all(client, driving, blocks)
            except SchedulerLost as error:
                driving.remarks.append(f"futures ended in {error}")
                driving.resubmitted += workload.blocks - len(blocks)
                with contextlib.suppress(Exception):
                    client.close(timeout=1)
                client = connect(address, workload.workers)
    driving.report([blocks[i] for i in range(workload.blocks)], distributed.__version__)
    workers.close()
    scheduler.close()


if __name__ == "__main__":
    main()
