"""What a pool has done: totals, and times by phase."""

import dataclasses
from typing import NamedTuple


@dataclasses.dataclass
class Counts:
    """Totals of a pool; bytes are those of images, kernels and cotangents.

    `workers` is the number of workers at present.
    """

    kernel_pairs: int = 0
    vjp_pairs: int = 0
    blocks: int = 0
    workers: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class Phase(NamedTuple):
    """The time and the traffic of one part of all steps.

    Attributes:
        seconds: duration.
        worker_seconds, busy_seconds: worker time in total; with at least one block.
        bytes_sent, bytes_received: bytes of images, kernels and cotangents.
    """

    seconds: float = 0.0
    worker_seconds: float = 0.0
    busy_seconds: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0

    def plus_difference(self, start: "Phase", stop: "Phase") -> "Phase":
        """This phase extended by what was counted between two moments."""
        return Phase._make(a + c - b for a, b, c in zip(self, start, stop, strict=True))

    @property
    def idle_share(self) -> float:
        """Share of the workers' time in which they had no block."""
        return 1 - self.busy_seconds / self.worker_seconds if self.worker_seconds else 0.0
