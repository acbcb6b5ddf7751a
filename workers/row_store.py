"""The row sets of a worker, by content hash, as far as their rows have arrived."""

import threading
from collections.abc import Mapping

import numpy as np

from kipper.common.errors import WorkerError

# For one row set. A larger total is a mistake or an attack.
_MAX_BYTES = 2**38


class RowsMissing(WorkerError):
    """Rows that a block needs have not arrived on this worker."""


class RowStore:
    """Row sets, mostly float32 images, whose rows arrive when blocks need them.

    Several threads may use a store, and all workers of a process may share one.

    Args:
        complete: row sets by key that are complete from the start; not copied.
    """

    def __init__(self, complete: Mapping[str, np.ndarray] | None = None) -> None:
        self._lock = threading.Lock()
        self._complete: dict[str, np.ndarray] = dict(complete or {})
        self._partial: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # rows, arrived

    def keys(self) -> list[str]:
        """The keys of complete row sets."""
        with self._lock:
            arrived = [key for key, (_, arrived) in self._partial.items() if arrived.all()]
            return sorted([*self._complete, *arrived])

    def put(self, key: str, total: int, index: np.ndarray, rows: np.ndarray) -> None:
        """Stores rows `index` of a set of `total` rows; repeated rows are harmless.

        Raises:
            WorkerError: the rows do not fit the set.
        """
        with self._lock:
            if key in self._complete:
                return
            if not 0 <= total * max(1, rows[:1].nbytes) <= _MAX_BYTES:
                raise WorkerError(
                    f"A row set of {total} rows of this size exceeds a worker's limit."
                )
            whole, arrived = self._partial.get(key) or (
                # The system provides memory page by page, as rows arrive.
                np.empty((total, *rows.shape[1:]), rows.dtype),
                np.zeros(total, bool),
            )
            if (
                len(whole) != total
                or (rows.shape[1:], rows.dtype) != (whole.shape[1:], whole.dtype)
                or len(index) != len(rows)
                or (index.size and not 0 <= index.min() <= index.max() < total)
            ):
                raise WorkerError(
                    f"{len(rows)} {rows.dtype} rows of shape {rows.shape[1:]}, for {len(index)} "
                    f"places of {total}, do not fit a row set of {whole.dtype} {whole.shape}."
                )
            whole[index] = rows
            arrived[index] = True
            self._partial[key] = whole, arrived

    def take(self, key: str, columns: np.ndarray, dtype: str) -> tuple[np.ndarray, int]:
        """Rows `columns` of a set, in `dtype`, and the number of rows of the set.

        Raises:
            RowsMissing: some of them have not arrived.
            WorkerError: an index lies outside the set.
        """
        with self._lock:
            complete = self._complete.get(key)
            partial = self._partial.get(key)
        rows = complete if complete is not None else partial[0] if partial is not None else None
        if rows is None:
            raise RowsMissing(f"Row set {key[:12]} is not on this worker.")
        if columns.size and not 0 <= columns.min() <= columns.max() < len(rows):
            raise WorkerError(
                f"A column index lies outside row set {key[:12]} of {len(rows)} rows."
            )
        if complete is None and partial is not None and not partial[1][columns].all():
            raise RowsMissing(f"Rows of set {key[:12]} are not on this worker.")
        return rows[columns].astype(dtype, copy=False), len(rows)
