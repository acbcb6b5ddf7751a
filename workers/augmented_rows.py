"""Target images, augmented for a step, preprocessed, with their features."""

import numpy as np

from kipper.common.augmentation import augment, parse_augmentation
from kipper.common.errors import WorkerError
from kipper.common.messages import Configure
from kipper.common.preprocessing import Preprocessing, Standardisation, ZcaWhitening
from kipper.workers.engine import Engine, PreparedImages
from kipper.workers.row_store import RowStore

# The current step, and the next one, whose rows may have been prepared ahead.
_DRAWS_KEPT = 2


class AugmentedRows:
    """Turns raw rows of a store into the columns of one kernel's blocks; for one thread at a time.

    The columns of a block are made together and kept for its vjp. The tiling decides which columns
    are together, so that all workers make the same bits.
    """

    def __init__(self, engine: Engine, store: RowStore, configure: Configure):
        self._engine = engine
        self._store = store
        self._dtype = configure.dtype
        self._seed = configure.seed
        self._augmentation = parse_augmentation(configure.augment)
        self._mean, self._std = configure.mean, configure.std
        self._whitening = configure.whitening
        self._preprocessing: Preprocessing | None = None
        self._kept: dict[tuple[str, int, bytes], PreparedImages] = {}

    def take(self, key: str, columns: np.ndarray, draw: int) -> PreparedImages:
        """Rows `columns` of a raw row set, augmented for step `draw`.

        Raises:
            RowsMissing: some of them, or of the whitening matrix, have not arrived.
            WorkerError: see `RowStore.take`.
        """
        place = key, draw, columns.tobytes()
        if place not in self._kept:
            raw, _ = self._store.take(key, columns, "float32")
            preprocessing = self._preprocess(raw.shape)
            augmented = augment(self._augmentation, raw, columns, self._seed, draw)
            images = preprocessing.apply(augmented).astype(self._dtype, copy=False)
            self._kept[place] = PreparedImages(images, self._engine.features(images))
            oldest = sorted({kept_draw for _, kept_draw, _ in self._kept})[-_DRAWS_KEPT:][0]
            for old in [kept for kept in self._kept if kept[1] < oldest]:
                del self._kept[old]
        return self._kept[place]

    def _preprocess(self, shape: tuple[int, ...]) -> Preprocessing:
        if self._preprocessing is None:
            if shape[-1] != len(self._mean):
                raise WorkerError(
                    f"Raw images have {shape[-1]} channels, the preprocessing {len(self._mean)}."
                )
            if not self._whitening:
                self._preprocessing = Standardisation(self._mean, self._std)
            else:
                size = int(np.prod(shape[1:]))
                rows, _ = self._store.take(self._whitening, np.arange(size), "float64")
                self._preprocessing = ZcaWhitening(
                    mean=self._mean,
                    std=self._std,
                    whitening=rows.reshape(size, -1),
                    typical_norm=np.array(1.0),  # used only by `invert`
                )
        return self._preprocessing
