"""What the scheduler is told and what it answers: plain values, which JSON can hold."""

import dataclasses
import typing
from typing import Any

# What went wrong with a block, and whose fault it may be.
TRANSPORT = "transport"  # question or answer was lost or damaged: nobody's
MISSING = "missing"  # the worker lacks rows that it was believed to hold: the coordinator's
CANCELLED = "cancelled"  # the coordinator took it back
NUMERICAL = "numerical"  # what came is not finite: the worker's or the block's
FAILED = "failed"  # the worker raised, or answered something else: likewise


@dataclasses.dataclass(frozen=True, slots=True)
class BlockSpec:
    """What the scheduler knows of a block.

    Attributes:
        block: its number, never used twice.
        shape: blocks of one shape cost alike.
        priority: the smallest goes first.
        pieces: rows that a worker must hold, as (name, bytes); the last is that of the columns.
        bytes: that the coordinator holds while it is out: the question's and the answer's.
        prefers: the worker that kept its residuals.
        optional: whether nobody waits for it, so that it may as well not be done.
    """

    block: int
    shape: str
    priority: int
    pieces: tuple[tuple[str, int], ...]
    bytes: int
    prefers: str | None = None
    optional: bool = False


# --- events ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker has been configured and checked, and holds no rows that the scheduler knows of."""

    worker: str


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker wants no more blocks; it will answer those it has begun."""

    worker: str


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerLeft:
    """The worker is gone; its blocks need another."""

    worker: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Heartbeat:
    """The worker lives, whatever its blocks do."""

    worker: str


@dataclasses.dataclass(frozen=True, slots=True)
class BlocksQueued:
    """New blocks, in the order in which their answers will be used."""

    blocks: tuple[BlockSpec, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class BlocksWithdrawn:
    """Nobody waits for these blocks any more."""

    blocks: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class BlockFinished:
    """A worker answered; `agrees` names the workers whose earlier answers say the same."""

    worker: str
    block: int
    agrees: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class BlockFailed:
    """A worker's answer did not come, or is none; `kind` is one of the above."""

    worker: str
    block: int
    kind: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time passed and nothing else happened."""


Event = (
    WorkerJoined
    | WorkerDraining
    | WorkerLeft
    | Heartbeat
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
    """Tell the worker that it need not begin the block."""

    worker: str
    block: int


@dataclasses.dataclass(frozen=True, slots=True)
class AcceptAnswer:
    """The worker's answer is the block's result."""

    worker: str
    block: int


@dataclasses.dataclass(frozen=True, slots=True)
class ForgetRows:
    """The worker does not hold what it was sent; send all that a block needs from now on."""

    worker: str


@dataclasses.dataclass(frozen=True, slots=True)
class DropWorker:
    """Have nothing more to do with the worker; `liar`: nor with one that comes by its name."""

    worker: str
    reason: str
    liar: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class QuarantineBlock:
    """Save the block's inputs for replay: it failed wherever it was tried."""

    block: int
    reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Abort:
    """The run cannot go on; `reason` is for the user.

    `numerical`: because all that workers computed of a block was not finite.
    """

    reason: str
    numerical: bool = False


Instruction = (
    SendBlock | CancelBlock | AcceptAnswer | ForgetRows | DropWorker | QuarantineBlock | Abort
)

_CLASSES = {cls.__name__: cls for cls in typing.get_args(Event | Instruction)}


def to_json(value: Event | Instruction) -> list[Any]:
    """The value as ["Class", field, …]."""
    return [type(value).__name__, *dataclasses.astuple(value)]


def from_json(encoded: list[Any]) -> Event | Instruction:
    """What `to_json` was given, after a way through JSON.

    Raises:
        ValueError: it is something else.
    """
    try:
        cls = _CLASSES[encoded[0]]
        fields = [_tuples(value) for value in encoded[1:]]
        if cls is BlocksQueued:
            fields = [tuple(BlockSpec(*spec) for spec in fields[0])]
        return typing.cast(Event | Instruction, cls(*fields))
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{encoded!r} is neither an event nor an instruction") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
