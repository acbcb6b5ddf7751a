"""What coordinator and worker say to each other, as plain values.

Every request is answered by exactly one reply; any request may be answered by `Failure`. All
requests are idempotent, so a transport may repeat one. `wire.py` turns these into bytes; between
threads of one process they pass as they are.
"""

import dataclasses
from typing import Any

import numpy as np

PROTOCOL_VERSION = 1

# The `columns_key` that means: columns are rows of the support images themselves.
SUPPORT_KEY = "support"


def array_field(dtypes: tuple[str, ...], ndim: int) -> Any:
    """A dataclass field that holds an array; `wire.decode` refuses other dtypes and ranks."""
    return dataclasses.field(metadata={"dtypes": dtypes, "ndim": ndim})


_FLOATS = ("float32", "float64")


@dataclasses.dataclass(frozen=True, eq=False)
class Configure:
    """First request to a worker: which kernel, by which engine. Answered by `Configured`.

    `threads` is how many a native engine may use at once; no bit depends on it.
    """

    protocol_version: int
    architecture: str
    kind: str
    dtype: str
    engine: str
    threads: int


@dataclasses.dataclass(frozen=True, eq=False)
class Configured:
    """The engine that `auto` became, the device it runs on, and the row sets already held."""

    engine: str
    device: str
    row_keys: list[str]


@dataclasses.dataclass(frozen=True, eq=False)
class PutRows:
    """A piece of a resident row set: rows `start` to `start + len(rows)` of `total`.

    `key` is the `content_key` of the whole set; answered by `Done`.
    """

    key: str
    start: int
    total: int
    rows: np.ndarray = array_field(("float32",), 4)


@dataclasses.dataclass(frozen=True, eq=False)
class PutSupport:
    """The support images (n, h, w, c) of a step version, in the kernel's dtype. `Done`."""

    version: int
    images: np.ndarray = array_field(_FLOATS, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """K(support[start:stop], columns); answered by `KernelBlock`.

    Attributes:
        version: of the support images.
        start, stop: the block's rows.
        columns_key: a resident row set, or `SUPPORT_KEY`.
        columns: indices into it.
        linearise: a `BlockVjp` of the same block will follow, so residuals are worth keeping.
    """

    version: int
    start: int
    stop: int
    columns_key: str
    linearise: bool
    columns: np.ndarray = array_field(("int64",), 1)


@dataclasses.dataclass(frozen=True, eq=False)
class KernelBlock:
    """Kernel values (rows, columns) in the kernel's dtype."""

    kernel: np.ndarray = array_field(_FLOATS, 2)


@dataclasses.dataclass(frozen=True, eq=False)
class BlockVjp:
    """The cotangent (rows, columns) of a `Block`; answered by `ImageCotangents`."""

    version: int
    start: int
    stop: int
    columns_key: str
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
class Done:
    """The request was carried out and has no result."""


@dataclasses.dataclass(frozen=True, eq=False)
class Failure:
    """The worker is alive but could not do it; `message` is for the user."""

    message: str


Request = Configure | PutRows | PutSupport | Block | BlockVjp
Reply = Configured | Done | KernelBlock | ImageCotangents | Failure
Message = Request | Reply
