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
from kipper.server.replies import Rounding
from kipper.server.run_numerics import Admission

# Largest error of a known block by another arithmetic than the coordinator's. Where images differ,
# benchmarks/agreement.py measured 2.9e-6 and 5.5e-15 at most, on processors. The bounds leave room
# for devices that were not measured.
_PROBE_ROUNDING = {
    "float32": Rounding(1e-4, 1e-4, 1e-4),
    "float64": Rounding(1e-11, 1e-11, 1e-11),
}

SetUp = Generator[Request, Reply, str | None]  # returns what is wrong with the worker, if anything


@dataclasses.dataclass(frozen=True)
class KnownBlock:
    """A small block whose kernel (n, m) the coordinator knows, used to check workers.

    `numerics` is the identity by which the coordinator computed it, if that is known.
    """

    probe: messages.Probe
    kernel: np.ndarray
    numerics: Numerics | None = None

    def what_is_wrong(self, kernel: np.ndarray, numerics: Numerics, dtype: str) -> str | None:
        """What is wrong with a kernel that was computed by `numerics`; None if nothing is."""
        if numerics == self.numerics:
            if kernel.tobytes() == self.kernel.tobytes():
                return None
            allowed = f", and by {numerics} not a bit may differ"
        elif _PROBE_ROUNDING[dtype].allows(kernel, self.kernel):
            return None
        else:
            allowed = ""
        error = np.abs(kernel - self.kernel).max() / np.abs(self.kernel).max()
        return f"its kernel of a known block is off by {error:.1e}{allowed}"


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
        # These are shown to people, also on terminals.
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
            wrong = known.what_is_wrong(reply.kernel, self.numerics, configure.dtype)
            if wrong is not None:
                return wrong
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
