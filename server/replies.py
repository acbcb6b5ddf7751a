"""Checks whether a reply can answer a request, and whether two replies are equal."""

import concurrent.futures
from typing import NamedTuple

import numpy as np

from kipper.common import messages
from kipper.common.errors import WorkerError
from kipper.common.messages import Block, BlockVjp, ImageCotangents, KernelBlock, Reply, Request
from kipper.common.printable import printable
from kipper.server.scheduler import events

# Failures reported by a worker that are not its own fault; all other kinds are.
_KINDS: dict[str, events.FailureKind] = {
    messages.MISSING: events.MISSING,
    messages.CANCELLED: events.CANCELLED,
    messages.DAMAGED: events.TRANSPORT,
}


class Rounding(NamedTuple):
    """How much an array may differ from the same array computed by another arithmetic.

    Attributes:
        whole: the norm of the difference, relative to that of the array.
        entry: its largest entry, relative to the array's largest entry.
        scale: the factor between the arrays, less one. Rounding hardly has a direction, so this
            finds a small wrong factor where rounding is large.
    """

    whole: float
    entry: float
    scale: float

    def allows(self, one: np.ndarray, other: np.ndarray) -> bool:
        """Whether two finite arrays of equal shape may have been rounded from the same numbers."""
        if not one.any() and not other.any():
            return True  # or empty
        one, other = one.astype(np.float64), other.astype(np.float64)
        difference, square = one - other, np.sum(other * other)
        return bool(
            np.sum(difference * difference) <= self.whole**2 * square
            and np.abs(difference).max() <= self.entry * np.abs(other).max()
            and abs(np.sum(difference * other)) <= self.scale * square
        )


# Three to ten times what benchmarks/agreement.py measured between engines, instruction sets and
# versions of XLA (docs/results.md). Gradients in float32 are least accurate where images nearly
# coincide: they decide the bounds of `GRADIENT_ROUNDING`.
KERNEL_ROUNDING = {
    "float32": Rounding(4e-4, 6e-4, 2e-4),
    "float64": Rounding(1e-12, 1e-12, 1e-12),
}
GRADIENT_ROUNDING = {
    "float32": Rounding(3e-2, 8e-2, 8e-4),
    "float64": Rounding(1e-9, 1e-9, 1e-9),
}


class Problem(NamedTuple):
    """Why a reply cannot be used; the message is for the user."""

    kind: events.FailureKind
    message: str


def failure(
    request: Request, reply: Reply | Exception, image_shape: tuple[int, ...], dtype: str
) -> Problem | None:
    """What is wrong with a reply; None if nothing is.

    Args:
        request: the request.
        reply: the reply, or the exception that came in its place.
        image_shape: (h, w, c) of support images; only replies to `BlockVjp` need it.
        dtype: the kernel's.
    """
    if isinstance(reply, Exception | messages.Failure):
        return why_not_done(reply)
    if not _fits(request, reply, image_shape, dtype):
        return Problem(events.FAILED, f"it answered {_asked(request)} with {_described(reply)}")
    if not all(np.isfinite(array).all() for array in arrays_of(reply)):
        message = f"it answered {_asked(request)} with values that are not finite"
        return Problem(events.NUMERICAL, message)
    return None


def why_not_done(reply: Reply | Exception) -> Problem:
    """The problem with a reply that is not the expected one."""
    if isinstance(reply, messages.Failure):
        return Problem(_KINDS.get(reply.kind, events.FAILED), printable(reply.message))
    if isinstance(reply, Exception):
        return Problem(events.TRANSPORT, printable(str(reply) or repr(reply)))
    return Problem(events.FAILED, f"it answered with {_described(reply)}")


def outcome(future: "concurrent.futures.Future[Reply]") -> Reply | Exception:
    """The reply in a future that is done, or the exception in its place."""
    if future.cancelled():
        return WorkerError("the call was cancelled")
    error = future.exception()
    if error is None:
        return future.result()
    return error if isinstance(error, Exception) else WorkerError(repr(error))


def same(one: Reply, other: Reply, same_numerics: bool, dtype: str | None = None) -> bool:
    """Whether two answers are equal: bit for bit, or within rounding if identities differ.

    `dtype` is the kernel's, if it may not be that of the arrays.
    """
    pairs = list(zip(arrays_of(one), arrays_of(other), strict=True))
    if same_numerics:
        return all(a.tobytes() == b.tobytes() for a, b in pairs)
    rounding = GRADIENT_ROUNDING if isinstance(one, ImageCotangents) else KERNEL_ROUNDING
    return all(rounding[dtype or a.dtype.name].allows(a, b) for a, b in pairs)


def arrays_of(message: Request | Reply) -> list[np.ndarray]:
    """The arrays of a message."""
    return [value for value in vars(message).values() if isinstance(value, np.ndarray)]


def num_bytes(message: Request | Reply) -> int:
    """Bytes of a message's arrays, which make up nearly all of it."""
    return sum(array.nbytes for array in arrays_of(message))


def _fits(request: Request, reply: Reply, image_shape: tuple[int, ...], dtype: str) -> bool:
    """Whether class, shapes and dtypes of the reply are those that the request requires."""
    match request:
        case messages.Configure():
            return isinstance(reply, messages.Configured)
        case messages.PutRows() | messages.PutSupport() | messages.Prepare() | messages.Cancel():
            return isinstance(reply, messages.Done)
        case messages.Probe():
            shape = (len(request.x1), len(request.x2))
            return isinstance(reply, KernelBlock) and _is(reply.kernel, shape, dtype)
        case Block():
            shape = (request.stop - request.start, len(request.columns))
            wanted = {dtype, "float64"} if request.columns_key == messages.SUPPORT_KEY else {dtype}
            return isinstance(reply, KernelBlock) and any(
                _is(reply.kernel, shape, one) for one in wanted
            )
        case BlockVjp():
            both = request.columns_key == messages.SUPPORT_KEY
            columns = len(request.columns) if both else 0
            return (
                isinstance(reply, ImageCotangents)
                and _is(reply.rows, (request.stop - request.start, *image_shape), dtype)
                and _is(reply.columns, (columns, *image_shape), dtype)
            )


def _is(array: np.ndarray, shape: tuple[int, ...], dtype: str) -> bool:
    return array.shape == shape and array.dtype.name == dtype


def _asked(request: Request) -> str:
    if isinstance(request, Block | BlockVjp):
        size = f"{request.stop - request.start}x{len(request.columns)}"
        return f"a {size} {'block' if isinstance(request, Block) else 'block vjp'}"
    return type(request).__name__


def _described(reply: Reply) -> str:
    shapes = ", ".join(f"{array.dtype} {array.shape}" for array in arrays_of(reply))
    return f"{type(reply).__name__}({shapes})"
