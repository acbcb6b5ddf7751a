"""The messages between coordinator and workers, as plain values.

There are two conversations. Each question gets exactly one answer, which may be a `Failure`:

    Request → Reply     the coordinator configures a worker, sends it rows and asks for blocks
    Call    → Answer    a worker joins, reports that it lives, and leaves

All questions are idempotent, so that a transport may repeat them. `wire.py` turns messages into
bytes; threads of one process exchange them as they are.
"""

import dataclasses
from typing import Any

import numpy as np

PROTOCOL_VERSION = 6

SUPPORT_KEY = "support"  # as a `columns_key`: the columns are support images
UNCHANGED = -1  # as a `draw`: the columns are not augmented

# The `kind` of a `Failure`.
SET_ASIDE = "set aside"  # this process failed what others could do; a new one may join later
REFUSED = "refused"  # permanently: another protocol, a banned worker
MISSING = "missing"  # the worker lacks rows of the block; send them and ask again
CANCELLED = "cancelled"  # the coordinator cancelled the block
DAMAGED = "damaged"  # the received bytes were not a message
FAILED = "failed"  # the computation failed
UNKNOWN = "unknown"  # the coordinator does not know the worker, which may send `Hello` again


def array_field(dtypes: tuple[str, ...], ndim: int) -> Any:
    """A dataclass field that holds an array; `wire.decode` refuses other dtypes and ranks."""
    return dataclasses.field(metadata={"dtypes": dtypes, "ndim": ndim})


_FLOATS = ("float32", "float64")


# --- Request → Reply ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Configure:
    """The first request to a worker: its kernels and engine. Answered by `Configured`.

    Attributes:
        run: the run's name, for the worker's log.
        architectures: one for each kernel; kernels differ in nothing else.
        threads: the number that a native engine may use; 0 for all. No bit depends on it.
        augment: as `augmentation.parse_augmentation` takes it; empty for no augmentation.
        seed: for augmentations.
        whitening: the key of a row set with the ZCA matrix (d, 1, 1, d) that preprocesses augmented
            images; empty for channel standardisation.
        mean, std: those of the raw channels; empty for no augmentation.
    """

    protocol_version: int
    run: str
    architectures: list[str]
    kind: str
    dtype: str
    engine: str
    threads: int
    augment: str
    seed: int
    whitening: str
    mean: np.ndarray = array_field(("float64",), 1)
    std: np.ndarray = array_field(("float64",), 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Configured:
    """The worker is ready.

    Attributes:
        engine: the chosen one.
        device: the device of the engine, with its machine, for display.
        arithmetic, check: the worker's numeric identity, with the engine; see `Numerics`.
        row_keys: the keys of the row sets that the worker holds complete.
    """

    engine: str
    device: str
    arithmetic: str
    check: str
    row_keys: list[str]


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """A block of the images it carries, with a known kernel. Answered by `KernelBlock`."""

    x1: np.ndarray = array_field(_FLOATS, 4)
    x2: np.ndarray = array_field(_FLOATS, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class PutRows:
    """Rows of the set with content key `key`: `rows[i]` is row `index[i]` of `total`. `Done`."""

    key: str
    total: int
    index: np.ndarray = array_field(("int64",), 1)
    rows: np.ndarray = array_field(_FLOATS, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class PutSupport:
    """Images `start` to `start + len(images)` of `total` support images. Answered by `Done`.

    `kernel` is the position of the version's kernel; `step` is for the log, -1 for none.
    """

    version: int
    step: int
    kernel: int
    total: int
    start: int
    images: np.ndarray = array_field(_FLOATS, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """K(support[start:stop], columns); answered by `KernelBlock`.

    Attributes:
        block: its number, for `Cancel`.
        version: the version of the support images.
        start, stop: the block's rows.
        columns_key: a row set, or `SUPPORT_KEY`.
        draw: the step whose augmentation the columns get, or `UNCHANGED`.
        columns: indices into the row set.
        linearise: whether to keep residuals, because a `BlockVjp` of the block will follow.
    """

    block: int
    version: int
    start: int
    stop: int
    columns_key: str
    draw: int
    linearise: bool
    columns: np.ndarray = array_field(("int64",), 1)


@dataclasses.dataclass(frozen=True, eq=False)
class KernelBlock:
    """Kernel values (rows, columns) in the kernel's dtype; of support images, float64 as well."""

    kernel: np.ndarray = array_field(_FLOATS, 2)


@dataclasses.dataclass(frozen=True, eq=False)
class BlockVjp:
    """The cotangent (rows, columns) of a `Block`; answered by `ImageCotangents`."""

    block: int
    version: int
    start: int
    stop: int
    columns_key: str
    draw: int
    columns: np.ndarray = array_field(("int64",), 1)
    cotangent: np.ndarray = array_field(_FLOATS, 2)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageCotangents:
    """Cotangents of the block's support images.

    Attributes:
        rows: (stop - start, h, w, c).
        columns: (columns, h, w, c) if the columns are support images too; else (0, h, w, c).
    """

    rows: np.ndarray = array_field(_FLOATS, 4)
    columns: np.ndarray = array_field(_FLOATS, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class Prepare:
    """Prepares target rows for a later `Block` with these columns. Answered by `Done`."""

    block: int
    kernel: int
    columns_key: str
    draw: int
    columns: np.ndarray = array_field(("int64",), 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Cancel:
    """Cancels a block that has not begun. Answered by `Done`."""

    block: int


# --- Call → Answer -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Hello:
    """A worker listens at `address` and wants work. Answered by `Welcome`.

    Attributes:
        protocol_version: the worker's version of the protocol.
        worker: its name, unique in the run; a worker that joins again replaces itself.
        incarnation: random for each process, to recognise late messages of a dead one.
        address: host:port that the coordinator can reach.
    """

    protocol_version: int
    worker: str
    incarnation: str
    address: str


@dataclasses.dataclass(frozen=True, eq=False)
class Heartbeat:
    """The worker lives. Answered by `Welcome`, `Goodbye` or a `Failure` (UNKNOWN)."""

    worker: str
    incarnation: str


@dataclasses.dataclass(frozen=True, eq=False)
class Leave:
    """The worker leaves and takes no more blocks. Answered by `Goodbye`.

    `Welcome` instead means that blocks are still with it; it must ask again.
    """

    worker: str
    incarnation: str


@dataclasses.dataclass(frozen=True, eq=False)
class Welcome:
    """The worker belongs to the run and must send a `Heartbeat` at this interval."""

    heartbeat_seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Goodbye:
    """The worker must leave.

    Attributes:
        reason: for the worker's log.
        is_over: whether the run has finished. Otherwise it was interrupted and may resume, or it
            continues without this worker.
    """

    reason: str
    is_over: bool


# --- both --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Done:
    """The request was carried out and has no result."""


@dataclasses.dataclass(frozen=True, eq=False)
class Failure:
    """The question was received but could not be answered; `message` is for the user."""

    kind: str
    message: str


Request = Configure | Probe | PutRows | PutSupport | Block | BlockVjp | Prepare | Cancel
Reply = Configured | Done | KernelBlock | ImageCotangents | Failure
Call = Hello | Heartbeat | Leave
Answer = Welcome | Goodbye | Failure
Message = Request | Reply | Call | Answer
