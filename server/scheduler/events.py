"""Events (the scheduler's input) and instructions (its output): plain values that JSON can hold."""

import dataclasses
import typing
from typing import Any, Literal

from kipper.server.scheduler.decoding import decode

# Why a worker's answer to a block was not usable, and who may be at fault.
FailureKind = Literal["transport", "missing", "cancelled", "numerical", "failed"]
TRANSPORT: FailureKind = "transport"  # request or answer was lost or damaged: nobody
MISSING: FailureKind = "missing"  # the worker lacks rows it was believed to hold: not the block
CANCELLED: FailureKind = "cancelled"  # the coordinator cancelled the block
NUMERICAL: FailureKind = "numerical"  # the answer is not finite: the worker or the block
FAILED: FailureKind = "failed"  # the worker raised or gave a wrong answer: the worker or the block


@dataclasses.dataclass(frozen=True, slots=True)
class BlockSpec:
    """What the scheduler knows of a block.

    Attributes:
        block: its number, never reused.
        shape: blocks of one shape cost about the same.
        priority: smaller is more urgent.
        pieces: rows that a worker must hold, as (name, bytes); the columns' piece comes last.
        bytes: memory that the coordinator needs while the block is out: request and answer.
        prefers: the worker that kept its residuals.
        optional: whether the block may be left undone.
        kind: the first word of its shape; a worker may fail all blocks of a kind, and no others.
    """

    block: int
    shape: str
    priority: int
    pieces: tuple[tuple[str, int], ...]
    bytes: int
    prefers: str | None = None
    optional: bool = False

    @property
    def kind(self) -> str:
        return self.shape.partition(" ")[0]

    @property
    def shape_of_kernel(self) -> str:
        """The shape of the block of the kernel whose cotangent a block pulls back."""
        return self.shape.replace("vjp", "K", 1)


# --- events ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker has been configured and checked; it holds no known rows."""

    worker: str


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker wants no more blocks, but answers those it has."""

    worker: str


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerLeft:
    """The worker is gone; other workers must compute its blocks."""

    worker: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class BlocksQueued:
    """New blocks, in the order in which their answers will be used."""

    blocks: tuple[BlockSpec, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class BlocksWithdrawn:
    """The results of these blocks are no longer needed."""

    blocks: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class BlockFinished:
    """A worker answered; `agrees` names the workers whose earlier answers are equal."""

    worker: str
    block: int
    agrees: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class BlockFailed:
    """A worker gave no usable answer to a block."""

    worker: str
    block: int
    kind: FailureKind
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time passed without any other event."""


Event = (
    WorkerJoined
    | WorkerDraining
    | WorkerLeft
    | BlocksQueued
    | BlocksWithdrawn
    | BlockFinished
    | BlockFailed
    | Tick
)


# --- instructions ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class SendBlock:
    """Send the block, and before it the rows it needs that the worker lacks."""

    worker: str
    block: int


@dataclasses.dataclass(frozen=True, slots=True)
class CancelBlock:
    """Tell the worker not to begin the block."""

    worker: str
    block: int


@dataclasses.dataclass(frozen=True, slots=True)
class AcceptAnswer:
    """Use the worker's answer as the block's result."""

    worker: str
    block: int


@dataclasses.dataclass(frozen=True, slots=True)
class ForgetRows:
    """Assume that the worker holds no rows; send everything again that its blocks need."""

    worker: str


@dataclasses.dataclass(frozen=True, slots=True)
class DropWorker:
    """Remove the worker; if it is a `liar`, admit no worker of that name again."""

    worker: str
    reason: str
    liar: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class SetAsideWorker:
    """Remove a worker that fails what others can do, if it is present.

    Do not admit this process again, nor another of its name within `seconds`.
    """

    worker: str
    reason: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class QuarantineBlock:
    """Save the block's inputs: it failed wherever it was tried."""

    block: int
    reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Abort:
    """Stop the run and tell the user the reason.

    `numerical`: every failure was an answer that is not finite.
    """

    reason: str
    numerical: bool = False


Instruction = (
    SendBlock
    | CancelBlock
    | AcceptAnswer
    | ForgetRows
    | DropWorker
    | SetAsideWorker
    | QuarantineBlock
    | Abort
)

_CLASSES = {cls.__name__: cls for cls in typing.get_args(Event | Instruction)}


def to_json(value: Event | Instruction) -> list[Any]:
    """The value as ["Class", field, …]."""
    return [type(value).__name__, *dataclasses.astuple(value)]


def from_json(encoded: list[Any]) -> Event | Instruction:
    """Decodes what `to_json` encoded.

    Raises:
        ValueError: it is something else.
    """
    try:
        value: Event | Instruction = decode(_CLASSES[encoded[0]], encoded[1:])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{encoded!r} is neither an event nor an instruction") from error
    return value
