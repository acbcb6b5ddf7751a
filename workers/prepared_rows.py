"""Resident rows with their features, each computed when it is first needed and then kept."""

import numpy as np

from kipper.workers.engine import Engine, PreparedImages
from kipper.workers.row_store import RowStore


class PreparedRows:
    """Rows of a store as one engine wants them; for one thread at a time.

    Features are kept in the kernel's dtype: for `convnet` in float32, 7 kB a 28x28 image.
    """

    def __init__(self, engine: Engine, store: RowStore, dtype: str):
        self._engine = engine
        self._store = store
        self._dtype = dtype
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # features, which are there

    def take(self, key: str, columns: np.ndarray) -> PreparedImages:
        """Rows `columns` of a resident row set.

        Raises:
            WorkerError: see `RowStore.take`.
        """
        images, total = self._store.take(key, columns, self._dtype)
        if key not in self._kept:
            width = self._engine.features(images[:1]).shape[1]
            self._kept[key] = np.empty((total, width), self._dtype), np.zeros(total, bool)
        features, there = self._kept[key]
        missing = ~there[columns]
        if missing.any():
            features[columns[missing]] = self._engine.features(images[missing])
            there[columns[missing]] = True
        return PreparedImages(images, features[columns])
