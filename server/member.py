"""One worker as the pool sees it: its link, how it is made ready, and what it holds."""

import dataclasses
import time
from collections.abc import Generator

import numpy as np

from kipper.common import messages
from kipper.common.messages import Reply, Request
from kipper.server.deliveries import Deliveries
from kipper.server.protocol import WorkerLink

# Largest error of a known block, relative to the largest entry. Right ones are a hundredth of this.
_PROBE_TOLERANCE = {"float32": 1e-3, "float64": 1e-8}

Script = Generator[Request, Reply, str | None]  # returns what is wrong with the worker


@dataclasses.dataclass(frozen=True)
class KnownBlock:
    """A small block of which the coordinator knows the kernel (n, m), to check workers by."""

    probe: messages.Probe
    kernel: np.ndarray


@dataclasses.dataclass
class Member:
    """A worker of the pool.

    Attributes:
        link: to it.
        deliveries: what it holds of the rows that blocks need.
        engine, device: what it said of itself; like devices compute equal bits.
        joined: whether it is ready and gets blocks.
        asked_at: when it came.
        held_back: blocks that wait for deliveries to arrive, with the deliveries' numbers.
    """

    link: WorkerLink
    deliveries: Deliveries
    engine: str = ""
    device: str = ""
    joined: bool = False
    asked_at: float = dataclasses.field(default_factory=time.monotonic)
    held_back: dict[int, set[int]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.link.name

    def set_up(self, configure: messages.Configure, known: KnownBlock | None) -> Script:
        """What is asked of a worker before it gets blocks."""
        reply = yield configure
        assert isinstance(reply, messages.Configured)
        self.engine, self.device = reply.engine, reply.device
        self.deliveries.complete = frozenset(reply.row_keys)
        if known is None:
            return None
        reply = yield known.probe
        assert isinstance(reply, messages.KernelBlock)
        error = float(np.abs(reply.kernel - known.kernel).max() / np.abs(known.kernel).max())
        if not error <= _PROBE_TOLERANCE[configure.dtype]:
            return f"its kernel of a known block is off by {error:.1e}"
        return None

    def ready_after(self, delivery: int) -> list[int]:
        """Blocks that waited for that delivery and wait for no other; they wait no longer."""
        ready = []
        for block, awaited in list(self.held_back.items()):
            awaited.discard(delivery)
            if not awaited:
                ready.append(block)
                del self.held_back[block]
        return ready

    def stranded_without(self, delivery: int) -> list[int]:
        """Blocks that waited for that delivery, which was lost; they wait no longer."""
        stranded = [block for block, awaited in self.held_back.items() if delivery in awaited]
        for block in stranded:
            del self.held_back[block]
        return stranded
