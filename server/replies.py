"""Whether a reply can be the answer to a request, and whether two of them say the same."""

import concurrent.futures

import numpy as np

from kipper.common import messages
from kipper.common.errors import WorkerError
from kipper.common.messages import Block, BlockVjp, ImageCotangents, KernelBlock, Reply, Request
from kipper.server.scheduler import events

# Kinds of `Failure` that are not the worker's; all others are.
_KINDS = {
    messages.MISSING: events.MISSING,
    messages.CANCELLED: events.CANCELLED,
    messages.DAMAGED: events.TRANSPORT,
}

# Largest difference of two answers, relative to the largest entry, where devices differ and bits
# may. Gradients in float32 lose most where images nearly coincide (docs/results.md).
_TOLERANCE = {"float32": 5e-3, "float64": 1e-6}


def fault(request: Request, reply: Reply, image_shape: tuple[int, ...], dtype: str) -> str | None:
    """What is wrong with a reply, for the user; None if nothing is.

    Args:
        request: what was asked.
        reply: what came.
        image_shape: (h, w, c) of support images.
        dtype: the kernel's.
    """
    wrong = failure(request, reply, image_shape, dtype)
    return None if wrong is None else wrong[1]


def failure(
    request: Request, reply: Reply | Exception, image_shape: tuple[int, ...], dtype: str
) -> tuple[str, str] | None:
    """Which kind of failure an answer is, and what is wrong; None if nothing is."""
    if isinstance(reply, Exception | messages.Failure):
        return why_not_done(reply)
    if not _fits(request, reply, image_shape, dtype):
        return events.FAILED, f"it answered {_asked(request)} with {_described(reply)}"
    if not all(np.isfinite(array).all() for array in arrays_of(reply)):
        return events.NUMERICAL, f"it answered {_asked(request)} with values that are not finite"
    return None


def why_not_done(reply: Reply | Exception) -> tuple[str, str]:
    """Kind and message of a failure."""
    if isinstance(reply, messages.Failure):
        return _KINDS.get(reply.kind, events.FAILED), reply.message
    if isinstance(reply, Exception):
        return events.TRANSPORT, message_of(reply)
    return events.FAILED, f"it answered with {_described(reply)}"


def outcome(future: "concurrent.futures.Future[Reply]") -> Reply | Exception:
    """What a call that has ended brought."""
    if future.cancelled():
        return WorkerError("the call was given up")
    error = future.exception()
    if error is None:
        return future.result()
    return error if isinstance(error, Exception) else WorkerError(repr(error))


def message_of(error: Exception) -> str:
    """What to tell the user of a call that came to nothing."""
    return str(error) or repr(error)


def same(one: Reply, other: Reply, like_devices: bool) -> bool:
    """Whether two answers to a request agree: in every bit, or nearly if devices differ."""
    pairs = list(zip(arrays_of(one), arrays_of(other), strict=True))
    if like_devices:
        return all(np.array_equal(a, b) for a, b in pairs)
    return all(
        a.size == 0 or np.abs(a - b).max() <= _TOLERANCE[a.dtype.name] * np.abs(b).max()
        for a, b in pairs
    )


def arrays_of(message: Request | Reply) -> list[np.ndarray]:
    """The arrays of a message."""
    return [value for value in vars(message).values() if isinstance(value, np.ndarray)]


def num_bytes(message: Request | Reply) -> int:
    """Bytes of a message's arrays, which are nearly all there is on the wire."""
    return sum(array.nbytes for array in arrays_of(message))


def _fits(request: Request, reply: Reply, image_shape: tuple[int, ...], dtype: str) -> bool:
    """Whether class, shapes and dtypes are those that the request asks for."""
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
            return isinstance(reply, KernelBlock) and _is(reply.kernel, shape, dtype)
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
