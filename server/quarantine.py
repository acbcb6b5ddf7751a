"""The inputs of a block that failed wherever it was tried, saved so that it can be tried again."""

import dataclasses
import pathlib

import numpy as np

from kipper.common.files import write_npz
from kipper.common.messages import SUPPORT_KEY, Block, BlockVjp, Configure


def save(
    folder: pathlib.Path,
    request: Block | BlockVjp,
    support: np.ndarray,
    row_set: np.ndarray | None,
    configure: Configure,
    reasons: tuple[str, ...],
) -> pathlib.Path:
    """Writes an npz of the block's images, its cotangent if it has one, and what went wrong.

    Args:
        folder: where to; the file is `quarantine-NUMBER.npz`.
        request: the block.
        support: images (n, h, w, c) of its version.
        row_set: its columns' row set; None if they are support images.
        configure: kernel and engine.
        reasons: one sentence for each worker it failed on.
    """
    both = request.columns_key == SUPPORT_KEY
    images = support if both or row_set is None else row_set
    arrays = {
        "rows": support[request.start : request.stop],
        "columns": images[request.columns],
        "columns_are_support": np.array(both),
        "kernel": np.array([f"{k}={v}" for k, v in dataclasses.asdict(configure).items()]),
        "reasons": np.array(reasons),
    }
    if isinstance(request, BlockVjp):
        arrays["cotangent"] = request.cotangent
    path = folder / f"quarantine-{request.block}.npz"
    write_npz(path, arrays)
    return path
