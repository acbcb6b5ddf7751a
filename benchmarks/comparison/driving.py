"""What the drivers of all systems share: the clock, the processor time, the report to `run.py`.

A driver is a program `DRIVER WORKLOAD_JSON CONTROL_FOLDER`. It starts its system, has every worker
answer something once, writes `CONTROL_FOLDER/head` (the process numbers of scheduler or head),
runs the workload under `Driving.measured`, and prints one JSON object as its last line.
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

# `run.py` sets it for the driver, and every process of a system under test inherits it.
MARK = "KIPPER_COMPARISON_RUN"
# What counts as quiet, and how long one looks.
_QUIET_CORES, _LOOK_SECONDS = 0.2, 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


def processes_of_run(mark: str) -> list[int]:
    """All processes that carry this mark, by number; those of other users are not seen."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return sorted(found)


def cpu_seconds(processes: Sequence[int]) -> float:
    """User and system time of processes so far; the dead count nothing."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def wait_until_quiet(patience: float) -> None:
    """Returns when hardly anybody uses the machine, or after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = _machine_cpu_seconds()
        time.sleep(_LOOK_SECONDS)
        if _machine_cpu_seconds() - before < _QUIET_CORES * _LOOK_SECONDS:
            return


def _machine_cpu_seconds() -> float:
    """Of all processes since the machine started, without idling and waiting."""
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
        """Tells `run.py` what to kill where the scheduler or head is to die."""
        (self.control / "head").write_text(json.dumps(list(processes)))

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Wall time, and processor time of all processes of the run that live to the end."""
        mark = os.environ[MARK]
        before = cpu_seconds(processes_of_run(mark))
        started = time.perf_counter()
        yield
        self._seconds = time.perf_counter() - started
        self._cpu_seconds = cpu_seconds(processes_of_run(mark)) - before

    def report(self, blocks: Sequence[np.ndarray], version: str, **more: Any) -> None:
        """Prints the result and what it took; `blocks` in the order of their numbers."""
        result = {
            "version": version,
            "seconds": self._seconds,
            "cpu_seconds": self._cpu_seconds,
            "sum_sha256": sum_sha256(blocks),
            "resubmitted": self.resubmitted,
            "remarks": self.remarks,
        }
        print(json.dumps({**result, **more}), flush=True)
