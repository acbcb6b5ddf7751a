"""Code shared by the drivers of all systems: wall time, processor time, the report to `run.py`.

A driver is a program `DRIVER WORKLOAD_JSON CONTROL_FOLDER`. It starts its system, makes every
worker answer once, writes the process ids of the scheduler or head to `CONTROL_FOLDER/head`, runs
the workload under `Driving.measured`, and prints one JSON object as its last line.
"""

import contextlib
import json
import os
import pathlib
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from workload import Workload, sum_sha256

# An environment variable that `run.py` sets for the driver. All processes of the system inherit it.
MARK = "KIPPER_COMPARISON_RUN"
# The machine is idle if it uses fewer cores than this on average over the sample time.
_QUIET_CORES, _SAMPLE_SECONDS = 0.2, 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


def processes_of_run(mark: str) -> list[int]:
    """The ids of this user's processes that carry this mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return sorted(found)


def cpu_seconds(processes: Sequence[int]) -> float:
    """User and system time of processes so far; processes that ended count as zero."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def wait_until_quiet(patience: float) -> None:
    """Returns when the machine is nearly idle, or after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = _machine_cpu_seconds()
        time.sleep(_SAMPLE_SECONDS)
        if _machine_cpu_seconds() - before < _QUIET_CORES * _SAMPLE_SECONDS:
            return


def _machine_cpu_seconds() -> float:
    """Processor time of all processes since the machine started."""
    user, nice, system, _, _, irq, soft_irq, *_ = (
        int(value) for value in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + soft_irq) / _TICKS


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Driving:
    """One run of the workload by one system."""

    def __init__(self) -> None:
        self.workload = Workload.from_json(sys.argv[1])
        self.control = pathlib.Path(sys.argv[2])
        self.resubmitted = 0
        self.remarks: list[str] = []
        self._seconds = self._cpu_seconds = 0.0

    def head_is(self, processes: Sequence[int]) -> None:
        """Tells `run.py` which processes to kill in faults of the scheduler or head."""
        (self.control / "head").write_text(json.dumps(list(processes)))

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Measures wall time, and processor time of the run's processes that live to the end."""
        mark = os.environ[MARK]
        before = cpu_seconds(processes_of_run(mark))
        started = time.perf_counter()
        yield
        self._seconds = time.perf_counter() - started
        self._cpu_seconds = cpu_seconds(processes_of_run(mark)) - before

    def report(self, blocks: Sequence[np.ndarray], version: str, **more: Any) -> None:
        """Prints the result and its cost. `blocks` are in the order of their numbers."""
        result = {
            "version": version,
            "seconds": self._seconds,
            "cpu_seconds": self._cpu_seconds,
            "sum_sha256": sum_sha256(blocks),
            "resubmitted": self.resubmitted,
            "remarks": self.remarks,
        }
        print(json.dumps({**result, **more}), flush=True)
