"""Runs the workload with kipper: pool, registry and `kipper worker` processes over Courier.

kipper's supervisor restarts workers that die. The policy is the default one of a run, so one block
in a hundred is computed twice and compared.

As in a run, blocks come in steps, and a restarted coordinator resumes from its last checkpoint: the
blocks are `STEPS` maps, each of which ends with writing its blocks. With STEPS=1 (default) there is
one map, as in the other systems.
"""

import dataclasses
import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from driving import Driving
from workload import COLUMNS, ROWS

from kipper.common import messages, wire
from kipper.common.files import write_npz
from kipper.common.messages import PROTOCOL_VERSION, UNCHANGED, Block
from kipper.common.settings import ExecutionSettings
from kipper.launch.link.registry import open_registry
from kipper.launch.link.remote_link import RemoteLink
from kipper.launch.link.transports import transport_named
from kipper.launch.link.transports.addresses import free_port
from kipper.launch.processes.process import keep_freed_memory
from kipper.server.pool import Pool
from kipper.server.pool_options import PoolOptions
from kipper.server.scheduler.rules import Policy

_READY_SECONDS = 120.0
STEPS = int(os.environ.get("STEPS", "1"))


class Kipper:
    """A pool with its workers."""

    def __init__(self, driving: Driving):
        self._driving = driving
        workload = driving.workload
        # Four more blocks per worker, to warm up.
        self._rows = np.arange((workload.blocks + 4 * workload.workers) * COLUMNS, dtype="float32")
        self._rows = self._rows.reshape(-1, 1, 1, 1)
        self._key = wire.content_key(self._rows)
        logs = driving.control / "logs"
        logs.mkdir(exist_ok=True)
        policy = Policy(
            verify_fraction=ExecutionSettings.verify_fraction, patience_seconds=float("inf")
        )
        self.pool = Pool(
            [],
            messages.Configure(
                PROTOCOL_VERSION,
                "comparison",
                ["fc1"],
                "ntk",
                "float32",
                "auto",
                1,
                "",
                0,
                "",
                np.zeros(0),
                np.zeros(0),
            ),
            {self._key: self._rows},
            options=PoolOptions(policy=policy, folder=logs, elastic=True),
        )

    def wait_for_workers(self) -> None:
        """Waits until all workers are ready and have answered.

        Raises:
            TimeoutError: not all workers joined in time.
        """
        workload = self._driving.workload
        self._version = self.pool.publish(np.zeros((ROWS, 1, 1, 1), np.float32))
        deadline = time.monotonic() + _READY_SECONDS
        while len(self.pool.engines) < workload.workers:
            list(self.blocks(workload.blocks, workload.blocks + 1))
            time.sleep(0.05)
            if time.monotonic() > deadline:
                raise TimeoutError("The workers did not join.")
        list(self.blocks(workload.blocks, workload.blocks + 4 * workload.workers))

    def blocks(self, first: int, last: int) -> Iterator[np.ndarray]:
        """The values of these blocks, in order."""
        for reply, _ in self.pool.map((self._request(i), None) for i in range(first, last)):
            assert isinstance(reply, messages.KernelBlock)
            yield reply.kernel

    def _request(self, index: int) -> Block:
        columns = np.arange(index * COLUMNS, (index + 1) * COLUMNS)
        return Block(0, self._version, 0, ROWS, self._key, UNCHANGED, False, columns)


def coordinator_port(driving: Driving) -> int:
    """The previous coordinator's port, where its workers wait; else a new one, with new workers."""
    path = driving.control / "port"
    if path.exists():
        return int(path.read_text())
    port = free_port()
    worker = os.path.join(os.path.dirname(__file__), "kipper_worker.py")
    command = [sys.executable, worker, sys.argv[1], f"127.0.0.1:{port}"]
    subprocess.Popen(command, start_new_session=True)
    path.write_text(str(port))
    return port


def run_steps(driving: Driving, kipper: Kipper) -> list[np.ndarray]:
    """All blocks. Steps that an earlier coordinator finished are read, not computed."""
    blocks: list[np.ndarray] = []
    size = -(-driving.workload.blocks // STEPS)
    for first in range(0, driving.workload.blocks, size):
        checkpoint = driving.control / f"step-{first}.npz"
        if checkpoint.exists():
            blocks += list(np.load(checkpoint)["blocks"])
            continue
        own = list(kipper.blocks(first, min(first + size, driving.workload.blocks)))
        if STEPS > 1:
            write_npz(checkpoint, {"blocks": np.stack(own)})
        blocks += own
    return blocks


def main() -> None:
    keep_freed_memory()
    driving = Driving()
    transport = transport_named("courier")
    port = coordinator_port(driving)
    kipper = Kipper(driving)

    def link(name: str, address: str) -> RemoteLink:
        return RemoteLink(name, transport.connect(address))

    with open_registry(kipper.pool, link, transport, port):
        kipper.wait_for_workers()
        driving.head_is([os.getpid()])
        with driving.measured():
            blocks = run_steps(driving, kipper)
        driving.report(
            blocks,
            importlib.metadata.version("kipper"),
            counters=dataclasses.asdict(kipper.pool.scheduler.counters),
        )
        kipper.pool.close()


if __name__ == "__main__":
    main()
