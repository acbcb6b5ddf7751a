"""The workload by dask.distributed: scheduler and workers as `dask scheduler` and `dask worker`.

Both commands are started again when they end, as an init system or Kubernetes would. The client
takes results as they complete. What it lost with a scheduler, it submits again; dask does not.
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


class Kept:
    """A command that is started again whenever it ends."""

    def __init__(self, name: str, arguments: list[str], restarted: list[str]):
        self._command = [sys.executable, "-m", f"distributed.cli.{name}", *arguments]
        self._name = name
        self._restarted = restarted
        self._closing = False
        self.process = subprocess.Popen(self._command)
        threading.Thread(target=self._keep, daemon=True).start()

    def close(self) -> None:
        self._closing = True
        self.process.kill()

    def _keep(self) -> None:
        while True:
            self.process.wait()
            if self._closing:
                return
            self._restarted.append(f"{self._name} ended and was started again")
            time.sleep(0.5)
            self.process = subprocess.Popen(self._command)


class SchedulerLost(Exception):
    """The scheduler forgot what it was asked to do."""


def take_all(client: distributed.Client, driving: Driving, blocks: dict[int, np.ndarray]) -> None:
    """Submits what is lacking in `blocks` and fills them in as they complete.

    Raises:
        SchedulerLost: futures were cancelled, which the client does when its connection ends. A
            few may never be heard of again (those whose results were on their way), so that
            waiting for the others would be waiting for ever.
    """
    lacking = [index for index in range(driving.workload.blocks) if index not in blocks]
    run = functools.partial(run_block, driving.workload)
    token = uuid.uuid4()
    keys = [f"run_block-{token}-{index}" for index in lacking]  # as dask itself would call them
    # The futures are kept by nobody else, so that a result is forgotten once it is here: dask
    # would compute it again if it were wanted still when its worker dies.
    completed = distributed.as_completed(client.map(run, lacking, key=keys), with_results=True)
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
    scheduler = Kept(
        "dask_scheduler", ["--host", "127.0.0.1", "--port", port, "--no-dashboard"], driving.remarks
    )
    workers = Kept(
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
