"""One worker of a pool: its link, its set-up and check, and the rows that it holds."""

import dataclasses
import time
from collections.abc import Generator

import numpy as np

from kipper.common import messages
from kipper.common.messages import Reply, Request
from kipper.common.numerics import Numerics
from kipper.common.printable import printable
from kipper.server.deliveries import Deliveries
from kipper.server.protocol import WorkerLink
from kipper.server.run_numerics import Admission

# Largest error of a known block, relative to its largest entry; a hundred times the usual error.
_PROBE_TOLERANCE = {"float32": 1e-3, "float64": 1e-8}

SetUp = Generator[Request, Reply, str | None]  # returns what is wrong with the worker, if anything


@dataclasses.dataclass(frozen=True)
class KnownBlock:
    """A small block whose kernel (n, m) the coordinator knows, used to check workers."""

    probe: messages.Probe
    kernel: np.ndarray


@dataclasses.dataclass
class PoolWorker:
    """A worker of a pool.

    Attributes:
        link: carries requests to it.
        deliveries: the rows it was sent.
        engine, device: its engine and device, for display.
        numerics: its numeric identity, once it is configured; equal ones compute equal bits.
        joined: whether it has passed its set-up and gets blocks.
        asked_at: when its set-up began.
        held_back: blocks that wait for deliveries, with the numbers of these.
    """

    link: WorkerLink
    deliveries: Deliveries
    engine: str = ""
    device: str = ""
    numerics: Numerics | None = None
    joined: bool = False
    asked_at: float = dataclasses.field(default_factory=time.monotonic)
    held_back: dict[int, set[int]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.link.name

    def set_up(
        self,
        configure: messages.Configure,
        known: KnownBlock | None,
        admission: Admission | None = None,
    ) -> SetUp:
        """The requests that configure and check the worker before it gets blocks."""
        reply = yield configure
        assert isinstance(reply, messages.Configured)
        # People read them, on terminals too.
        engine, device, arithmetic, check = (
            printable(text, 200)
            for text in (reply.engine, reply.device, reply.arithmetic, reply.check)
        )
        self.engine, self.device = engine, device
        self.numerics = Numerics(engine, arithmetic, check)
        self.deliveries.complete = frozenset(reply.row_keys)
        if known is not None:
            reply = yield known.probe
            assert isinstance(reply, messages.KernelBlock)
            error = float(np.abs(reply.kernel - known.kernel).max() / np.abs(known.kernel).max())
            if not error <= _PROBE_TOLERANCE[configure.dtype]:
                return f"its kernel of a known block is off by {error:.1e}"
        # Last, because the first worker that passes gives the run its identity.
        return admission.refusal(self.numerics) if admission is not None else None

    def ready_after(self, delivery: int) -> list[int]:
        """Removes and returns the held-back blocks for which this delivery was the last one."""
        ready = []
        for block, awaited in list(self.held_back.items()):
            awaited.discard(delivery)
            if not awaited:
                ready.append(block)
                del self.held_back[block]
        return ready

    def stranded_without(self, delivery: int) -> list[int]:
        """Removes and returns the held-back blocks that need this delivery, which was lost."""
        stranded = [block for block, awaited in self.held_back.items() if delivery in awaited]
        for block in stranded:
            del self.held_back[block]
        return stranded
