"""Describes blocks to the scheduler: shape, bytes, and the rows they need."""

import zlib

import numpy as np

from kipper.common.messages import SUPPORT_KEY, UNCHANGED, Block, BlockVjp, Prepare
from kipper.server.scheduler.events import BlockSpec

BlockRequest = Block | BlockVjp | Prepare


def optional_spec(
    request: Prepare, row_set: np.ndarray, missing: float, priority: int
) -> BlockSpec:
    """The spec of a request to prepare rows; arguments as for `spec_of`."""
    name, size = _columns_piece(request, row_set[:1].nbytes, missing)
    return BlockSpec(
        block=request.block,
        shape=f"rows {len(request.columns)}",
        priority=priority,
        pieces=((name, size),),
        bytes=size,
        optional=True,
    )


def spec_of(
    request: Block | BlockVjp,
    support: np.ndarray,
    missing: float,
    priority: int,
    prefers: str | None,
) -> BlockSpec:
    """The spec of a block.

    Args:
        request: the block, numbered.
        support: the images (n, h, w, c) of its version.
        missing: share of its row set's rows that a worker lacks on average, 0 to 1; rows that
            every worker holds cost nothing to send.
        priority: smaller is more urgent.
        prefers: the worker that kept its residuals.
    """
    image_bytes = support[:1].nbytes
    rows, columns = request.stop - request.start, len(request.columns)
    pieces = {f"support {request.version} {request.start}": rows * image_bytes}
    if request.columns_key == SUPPORT_KEY:
        name = f"support {request.version} {request.columns[0]}"
        pieces[name] = columns * image_bytes
    else:
        name, size = _columns_piece(request, image_bytes, missing)
        pieces[name] = size
    is_vjp = isinstance(request, BlockVjp)
    kernel_bytes = rows * columns * support.dtype.itemsize
    both = columns if request.columns_key == SUPPORT_KEY else 0
    answer_bytes = (rows + both) * image_bytes if is_vjp else 0
    return BlockSpec(
        block=request.block,
        shape=f"{'vjp' if is_vjp else 'K'} {rows}x{columns}{'' if both == 0 else ' of support'}",
        priority=priority,
        pieces=tuple(pieces.items()),
        bytes=kernel_bytes + answer_bytes + sum(pieces.values()),
        prefers=prefers,
    )


def _columns_piece(request: BlockRequest, image_bytes: int, missing: float) -> tuple[str, int]:
    digest = zlib.crc32(request.columns.tobytes())
    size = round(len(request.columns) * image_bytes * missing)
    drawn = "" if request.draw == UNCHANGED else f" {request.draw}"
    return f"{request.columns_key[:8]} {digest:08x}{drawn}", size
