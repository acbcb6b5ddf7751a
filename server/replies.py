"""Whether a reply can be the answer to a request: a worker may be of another version, or wrong."""

import numpy as np

from kipper.common import messages
from kipper.common.messages import Block, BlockVjp, ImageCotangents, KernelBlock, Reply, Request


def fault(request: Request, reply: Reply, support: np.ndarray | None) -> str | None:
    """What is wrong with a reply, for the user; None if nothing is.

    Args:
        request: what was asked.
        reply: what came.
        support: the support images (n, h, w, c), of which dtype and image shape are expected.
    """
    if isinstance(reply, messages.Failure):
        return reply.message
    if _fits(request, reply, support):
        return None
    return f"it answered {_asked(request)} with {_described(reply)}"


def _fits(request: Request, reply: Reply, support: np.ndarray | None) -> bool:
    """Whether class, shapes and dtypes are those that the request asks for."""
    match request:
        case messages.Configure():
            return isinstance(reply, messages.Configured)
        case messages.PutRows() | messages.PutSupport():
            return isinstance(reply, messages.Done)
        case Block():
            assert support is not None
            shape = (request.stop - request.start, len(request.columns))
            return isinstance(reply, KernelBlock) and _is(reply.kernel, shape, support.dtype)
        case BlockVjp():
            assert support is not None
            image = support.shape[1:]
            both = request.columns_key == messages.SUPPORT_KEY
            columns = len(request.columns) if both else 0
            return (
                isinstance(reply, ImageCotangents)
                and _is(reply.rows, (request.stop - request.start, *image), support.dtype)
                and _is(reply.columns, (columns, *image), support.dtype)
            )


def _is(array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    return array.shape == shape and array.dtype == dtype


def _asked(request: Request) -> str:
    if isinstance(request, Block | BlockVjp):
        size = f"{request.stop - request.start}x{len(request.columns)}"
        return f"a {size} {'block' if isinstance(request, Block) else 'block vjp'}"
    return type(request).__name__


def _described(reply: Reply) -> str:
    arrays = [value for value in vars(reply).values() if isinstance(value, np.ndarray)]
    shapes = ", ".join(f"{array.dtype} {array.shape}" for array in arrays)
    return f"{type(reply).__name__}({shapes})"
