"""The workload of the comparison: numpy only, the same bits in every system.

Block `index` returns 25 x 100 float32 numbers, like a kernel block of a paper-sized step. It takes
time by sleeping, by exact matrix products (of integers, so that the bits do not depend on the
BLAS), or not at all. The result of a run is the float32 sum of all blocks in the order of their
numbers, compared by SHA-256.

    python workload.py WORKLOAD_JSON

runs all blocks in sequence and prints {"sum_sha256", "seconds_per_block"}.

Files in the workload's folder make faults the same for every system: each process writes a line to
`journal/PID` when a block begins and when it ends, and the process whose id is in the file `slow`
takes ten times as long.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterable
from typing import TextIO

import numpy as np

ROWS, COLUMNS = 25, 100
SLOWNESS = 10
_SIDE = 256  # of the matrices of a computing block
_journals: dict[pathlib.Path, TextIO] = {}


@dataclasses.dataclass(frozen=True)
class Workload:
    """The blocks of a run and the number of workers.

    Attributes:
        mode: "sleep", "compute" or "empty".
        blocks: the number of blocks.
        seconds: the time of a sleeping block.
        products: the number of matrix products of a computing block.
        workers: the number of processes, each computing one block at a time.
        folder: holds journals and faults; "" for neither.
    """

    mode: str
    blocks: int
    seconds: float
    products: int
    workers: int
    folder: str = ""

    @classmethod
    def from_json(cls, text: str) -> "Workload":
        return cls(**json.loads(text))

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def run_block(workload: Workload, index: int) -> np.ndarray:
    """Takes a block's time, then returns its numbers, (25, 100) float32."""
    _journal(workload, "begins", index)
    slowness = SLOWNESS if _is_slow(workload) else 1
    values = block_values(index)
    if workload.mode == "sleep":
        time.sleep(workload.seconds * slowness)
    elif workload.mode == "compute":
        for _ in range(slowness):
            values = _computed_values(index, workload.products)
    _journal(workload, "ends", index)
    return values


def block_values(index: int) -> np.ndarray:
    """Numbers that differ from block to block, (25, 100) float32."""
    entries = np.arange(ROWS * COLUMNS, dtype=np.int64)
    residues = (entries * 2654435761 + (index + 1) * 40503) % 65521
    return (residues / 65521).astype(np.float32).reshape(ROWS, COLUMNS)


def _computed_values(index: int, products: int) -> np.ndarray:
    entries = np.arange(_SIDE * _SIDE, dtype=np.int64)
    factor = ((entries * 7919 + index) % 251).astype(np.float64).reshape(_SIDE, _SIDE)
    power, product, quotient = factor.copy(), np.empty_like(factor), np.empty_like(factor)
    for _ in range(products):  # in place, so that memory allocation is not measured
        np.matmul(power, factor, out=product)  # below 251^2 * 256, exact in float64
        np.floor(np.divide(product, 251, out=quotient), out=quotient)
        quotient *= 251
        np.subtract(product, quotient, out=power)
    return (power[:ROWS, :COLUMNS] / 251).astype(np.float32)


def sum_sha256(blocks: Iterable[np.ndarray]) -> str:
    """SHA-256 of the float32 sum in the given order; another order gives other bits."""
    total = np.zeros((ROWS, COLUMNS), np.float32)
    for block in blocks:
        total += block
    return hashlib.sha256(total.tobytes()).hexdigest()


def _journal(workload: Workload, event: str, index: int) -> None:
    if not workload.folder:
        return
    path = pathlib.Path(workload.folder) / "journal" / str(os.getpid())
    if path not in _journals:
        _journals[path] = open(path, "a", buffering=1)  # noqa: SIM115 (as long as the process)
    _journals[path].write(f"{event} {index}\n")


def _is_slow(workload: Workload) -> bool:
    if not workload.folder:
        return False
    path = pathlib.Path(workload.folder) / "slow"
    return path.exists() and path.read_text() == str(os.getpid())


def main() -> None:
    workload = Workload.from_json(sys.argv[1])
    started = time.perf_counter()
    total = sum_sha256(run_block(workload, index) for index in range(workload.blocks))
    seconds = (time.perf_counter() - started) / workload.blocks
    print(json.dumps({"sum_sha256": total, "seconds_per_block": seconds}))


if __name__ == "__main__":
    main()
