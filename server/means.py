"""What a pool is given beside its workers, and what it counts."""

import dataclasses
import pathlib
from typing import NamedTuple

from kipper.server.member import KnownBlock
from kipper.server.scheduler.rules import Policy
from kipper.server.watch.watch import Watch


@dataclasses.dataclass
class Counts:
    """What the pool has done since it was made; bytes are those of images, kernels, cotangents."""

    kernel_pairs: int = 0
    vjp_pairs: int = 0
    blocks: int = 0
    workers: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclasses.dataclass(frozen=True)
class Means:
    """What a pool may be given beside its workers.

    Attributes:
        policy: of the scheduler.
        known: a block to check workers by before they get others.
        folder: where the scheduler's log and quarantined blocks go; None: nowhere.
        elastic: whether workers may yet come, so that having none is no reason to stop.
        watch: is told what happens, for onlookers; None: nobody looks on.
    """

    policy: Policy = dataclasses.field(default_factory=lambda: Policy(patience_seconds=10.0))
    known: KnownBlock | None = None
    folder: pathlib.Path | None = None
    elastic: bool = False
    watch: Watch | None = None


class Phase(NamedTuple):
    """What a part of each step took, in all or between two moments.

    Attributes:
        seconds: while it lasted.
        worker_seconds, busy_seconds: of the workers that were there; that had a block.
        bytes_sent, bytes_received: of images, kernels and cotangents.
    """

    seconds: float = 0.0
    worker_seconds: float = 0.0
    busy_seconds: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0

    def __add__(self, other: "Phase") -> "Phase":  # type: ignore[override]
        return Phase._make(a + b for a, b in zip(self, other, strict=True))

    def __sub__(self, other: "Phase") -> "Phase":
        return Phase._make(a - b for a, b in zip(self, other, strict=True))

    @property
    def idle_share(self) -> float:
        """Of the workers' time, the share in which they had nothing to do."""
        return 1 - self.busy_seconds / self.worker_seconds if self.worker_seconds else 0.0
