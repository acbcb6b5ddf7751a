"""Saves the inputs of a block that failed on every worker, so that it can be reproduced."""

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
    """Writes an npz file of the block's images, its cotangent if any, and the reasons.

    Args:
        folder: where to write `quarantine-NUMBER.npz`.
        request: the block.
        support: support images (n, h, w, c) of its version.
        row_set: row set of its columns; None if they are support images.
        configure: kernel and engine.
        reasons: one for each worker it failed on.

    Returns:
        The path of the file.
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
