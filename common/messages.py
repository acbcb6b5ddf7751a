"""What coordinator and worker say to each other, as plain values.

Two conversations, each question answered by exactly one reply, and any by `Failure`:

    Request → Reply     the coordinator asks a worker: kernels, rows, blocks
    Call    → Answer    a worker tells the coordinator that it came, that it lives, that it goes

All questions are idempotent, so a transport may repeat one. `wire.py` turns these into bytes;
between threads of one process they pass as they are.
"""

import dataclasses
from typing import Any

import numpy as np

PROTOCOL_VERSION = 4

# The `columns_key` that means: columns are rows of the support images themselves.
SUPPORT_KEY = "support"

# The `draw` that means: columns are the rows as they are, not augmented.
UNCHANGED = -1

# Why a question could not be answered: the `kind` of a `Failure`.
REFUSED = "refused"  # it will never be: another protocol, a banned worker
MISSING = "missing"  # the worker lacks rows that the block names; send them and ask again
CANCELLED = "cancelled"  # the coordinator took it back
DAMAGED = "damaged"  # what arrived was no message
FAILED = "failed"  # the computation failed
UNKNOWN = "unknown"  # the coordinator knows no such worker; it may say `Hello` again


def array_field(dtypes: tuple[str, ...], ndim: int) -> Any:
    """A dataclass field that holds an array; `wire.decode` refuses other dtypes and ranks."""
    return dataclasses.field(metadata={"dtypes": dtypes, "ndim": ndim})


_FLOATS = ("float32", "float64")


# --- Request → Reply ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Configure:
    """First request to a worker: which kernels, by which engine. Answered by `Configured`.

    Attributes:
        run: its name, for the worker's log.
        architectures: of each kernel; the kernels are alike in all else.
        threads: how many a native engine may use at once, 0 for all of the worker's share; no bit
            depends on it.
        augment: what `augmentation.parse_augmentation` takes; empty if no columns are augmented.
        seed: of augmentations.
        whitening: key of a row set that holds the ZCA matrix (d, 1, 1, d) by which augmented images
            are preprocessed; empty for channel standardisation.
        mean, std: of raw channels; empty if no columns are augmented.
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
    """The engine that `auto` became, the device it runs on, and the row sets held complete."""

    engine: str
    device: str
    row_keys: list[str]


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """A block of images that come with it, whose kernel the coordinator knows. `KernelBlock`."""

    x1: np.ndarray = array_field(_FLOATS, 4)
    x2: np.ndarray = array_field(_FLOATS, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class PutRows:
    """Some rows of a row set: `rows[i]` is row `index[i]` of `total`. Answered by `Done`.

    `key` is the `content_key` of the whole set.
    """

    key: str
    total: int
    index: np.ndarray = array_field(("int64",), 1)
    rows: np.ndarray = array_field(_FLOATS, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class PutSupport:
    """Some support images of a step version, in the kernel's dtype. Answered by `Done`.

    They are images `start` to `start + len(images)` of `total`; `kernel` is the position of the
    kernel that the version's blocks are of, and `step` is that of the run, or -1, for the log.
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
        block: the coordinator's number for it, by which it may be cancelled.
        version: of the support images.
        start, stop: the block's rows.
        columns_key: a row set, or `SUPPORT_KEY`.
        draw: the step for which the columns' augmentation is drawn, or `UNCHANGED`.
        columns: indices into it.
        linearise: a `BlockVjp` of the same block will follow, so residuals are worth keeping.
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
    """Kernel values (rows, columns) in the kernel's dtype."""

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
        columns: (columns, h, w, c) where the columns are support images too; else no rows.
    """

    rows: np.ndarray = array_field(_FLOATS, 4)
    columns: np.ndarray = array_field(_FLOATS, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class Prepare:
    """Rows that a block to come will need, to be made ready for it. Answered by `Done`.

    The fields are those of a `Block` without its rows, and of its support's version.
    """

    block: int
    kernel: int
    columns_key: str
    draw: int
    columns: np.ndarray = array_field(("int64",), 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Cancel:
    """The answer to a block is not wanted any more; one not begun is given up. `Done`."""

    block: int


# --- Call → Answer -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Hello:
    """A worker listens at `address` and wants work. Answered by `Welcome`.

    Attributes:
        protocol_version: of the worker.
        worker: its name, unique in the run; one that comes again under its name replaces itself.
        incarnation: random, of this process, so that late words of a dead one are recognised.
        address: host:port that the coordinator can reach.
    """

    protocol_version: int
    worker: str
    incarnation: str
    address: str


@dataclasses.dataclass(frozen=True, eq=False)
class Heartbeat:
    """The worker lives. Answered by `Welcome`, or by `Goodbye`, or by a `Failure` (UNKNOWN)."""

    worker: str
    incarnation: str


@dataclasses.dataclass(frozen=True, eq=False)
class Leave:
    """The worker goes: it wants no more blocks, and gives up those not begun. `Goodbye`.

    `Welcome` instead means: blocks of it are still out; ask again.
    """

    worker: str
    incarnation: str


@dataclasses.dataclass(frozen=True, eq=False)
class Welcome:
    """The worker belongs to the run, and is to give a sign of life so often."""

    heartbeat_seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Goodbye:
    """The worker is to go.

    Attributes:
        reason: for its log.
        is_over: whether the run has ended for good; else it was interrupted and may go on, or it
            goes on without this worker.
    """

    reason: str
    is_over: bool


# --- both --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Done:
    """The request was carried out and has no result."""


@dataclasses.dataclass(frozen=True, eq=False)
class Failure:
    """The other side is alive but could not do it; `message` is for the user."""

    kind: str
    message: str


Request = Configure | Probe | PutRows | PutSupport | Block | BlockVjp | Prepare | Cancel
Reply = Configured | Done | KernelBlock | ImageCotangents | Failure
Call = Hello | Heartbeat | Leave
Answer = Welcome | Goodbye | Failure
Message = Request | Reply | Call | Answer
