"""Row sets that stay on a worker: target, test and natural support images, by content hash."""

import threading
from collections.abc import Mapping

import numpy as np

from kipper.common.errors import WorkerError
from kipper.common.wire import content_key


class RowStore:
    """Row sets of float32 images, filled piece by piece and checked against their key.

    One store may serve all workers of a process, from several threads.

    Args:
        complete: row sets by key that are there from the start, taken without a copy.
    """

    def __init__(self, complete: Mapping[str, np.ndarray] | None = None) -> None:
        self._lock = threading.Lock()
        self._complete: dict[str, np.ndarray] = dict(complete or {})
        self._partial: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # rows, which have arrived

    def keys(self) -> list[str]:
        """Keys of the complete row sets."""
        with self._lock:
            return sorted(self._complete)

    def length(self, key: str) -> int:
        """Number of rows of a complete set."""
        with self._lock:
            return len(self._complete[key])

    def put(self, key: str, start: int, total: int, rows: np.ndarray) -> None:
        """Takes a piece; repeating one is harmless.

        Raises:
            WorkerError: the piece does not fit the set, or the complete set has another hash.
        """
        with self._lock:
            if key in self._complete:
                return
            if key not in self._partial:
                whole = np.empty((total, *rows.shape[1:]), rows.dtype)
                self._partial[key] = whole, np.zeros(total, bool)
            whole, arrived = self._partial[key]
            stop = start + len(rows)
            if (
                len(whole) != total
                or rows.shape[1:] != whole.shape[1:]
                or not 0 <= start <= stop <= total
            ):
                raise WorkerError(
                    f"Rows {start} to {stop} of shape {rows.shape[1:]} do not fit a row set of "
                    f"shape {whole.shape}."
                )
            whole[start:stop] = rows
            arrived[start:stop] = True
            if not arrived.all():
                return
            del self._partial[key]
            if content_key(whole) != key:
                raise WorkerError(f"Row set {key[:12]} arrived with another content hash.")
            self._complete[key] = whole

    def take(self, key: str, columns: np.ndarray, dtype: str) -> np.ndarray:
        """Rows `columns` of a set, in the kernel's dtype.

        Raises:
            WorkerError: the set is not here, or an index lies outside it.
        """
        with self._lock:
            rows = self._complete.get(key)
        if rows is None:
            raise WorkerError(f"Row set {key[:12]} is not on this worker.")
        if columns.size and not 0 <= columns.min() <= columns.max() < len(rows):
            raise WorkerError(
                f"A column index lies outside row set {key[:12]} of {len(rows)} rows."
            )
        return rows[columns].astype(dtype, copy=False)
