"""Resident rows with their features, which are computed on first use and kept."""

import numpy as np

from kipper.workers.engine import Engine, PreparedImages
from kipper.workers.row_store import RowStore


class PreparedRows:
    """Rows of a store with the features of one engine; for one thread at a time.

    For `convnet` in float32, the features of a 28x28 image take 7 kB.
    """

    def __init__(self, engine: Engine, store: RowStore, dtype: str):
        self._engine = engine
        self._store = store
        self._dtype = dtype
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # features, computed

    def take(self, key: str, columns: np.ndarray) -> PreparedImages:
        """Rows `columns` of a resident row set.

        Raises:
            WorkerError: see `RowStore.take`.
        """
        images, total = self._store.take(key, columns, self._dtype)
        if key not in self._kept:
            width = self._engine.features(images[:1]).shape[1]
            self._kept[key] = np.empty((total, width), self._dtype), np.zeros(total, bool)
        features, computed = self._kept[key]
        missing = ~computed[columns]
        if missing.any():
            features[columns[missing]] = self._engine.features(images[missing])
            computed[columns[missing]] = True
        return PreparedImages(images, features[columns], source=key, numbers=columns)
