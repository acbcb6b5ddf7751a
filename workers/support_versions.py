"""The support images of the newest step versions, as far as they have arrived."""

import threading
from collections.abc import Sequence

import numpy as np

from kipper.common.errors import WorkerError
from kipper.common.messages import PutSupport
from kipper.workers.engine import Engine, PreparedImages
from kipper.workers.row_store import RowsMissing

# The newest, and the one before, which an evaluation or a late block may still use.
_VERSIONS_KEPT = 2
# For one version. A larger total is a mistake or an attack.
_MAX_BYTES = 2**36


class SupportVersions:
    """Support images with their features, by version.

    Features are computed for all images of one `PutSupport` together, so that their bits do not
    depend on what else the worker received.
    """

    def __init__(self, engines: Sequence[Engine], dtype: str):
        self._engines = engines
        self._dtype = dtype
        self._lock = threading.Lock()
        self._versions: dict[int, _Version] = {}

    def put(self, request: PutSupport) -> int:
        """Stores some images of a version; returns the oldest version that is still kept.

        Raises:
            WorkerError: the images have a dtype other than the kernel's, or do not fit the version.
        """
        images, start, total = request.images, request.start, request.total
        if images.dtype.name != self._dtype:
            raise WorkerError(
                f"Support images are {images.dtype}, but the kernel is {self._dtype}."
            )
        if total * max(1, images[:1].nbytes) > _MAX_BYTES:
            raise WorkerError(f"{total} support images of this size exceed a worker's limit.")
        if not 0 <= start <= start + len(images) <= total:
            raise WorkerError(
                f"Support images {start} to {start + len(images)} lie outside 0 to {total}."
            )
        if not 0 <= request.kernel < len(self._engines):
            raise WorkerError(
                f"There is no kernel {request.kernel}; {len(self._engines)} are known."
            )
        features = self._engines[request.kernel].features(images)
        with self._lock:
            version = self._versions.get(request.version)
            if version is None:
                version = _Version(request.step, request.kernel, total, images, features)
                self._versions[request.version] = version
            version.put(start, images, features)
            for old in sorted(self._versions)[:-_VERSIONS_KEPT]:
                del self._versions[old]
            return min(self._versions)

    def kernel_of(self, version: int) -> int:
        """The position of the kernel that a version is for.

        Raises:
            RowsMissing: no image of the version has arrived.
        """
        with self._lock:
            return self._kept(version).kernel

    def step_of(self, version: int) -> int | None:
        """The step of a version, for log lines; None if it has none or has not arrived."""
        kept = self._versions.get(version)  # a single read needs no lock
        return kept.step if kept is not None and kept.step >= 0 else None

    def take(self, version: int, index: np.ndarray) -> PreparedImages:
        """Images `index` of a version.

        Raises:
            RowsMissing: some have not arrived.
            WorkerError: an index lies outside the version.
        """
        with self._lock:
            return self._kept(version).take(index)

    def _kept(self, version: int) -> "_Version":
        kept = self._versions.get(version)
        if kept is None:
            raise RowsMissing(f"Support version {version} is not on this worker.")
        return kept


class _Version:
    def __init__(
        self, step: int, kernel: int, total: int, images: np.ndarray, features: np.ndarray
    ):
        self.step = step
        self.kernel = kernel
        self._source = object()
        self._images = np.empty((total, *images.shape[1:]), images.dtype)
        self._features = np.empty((total, *features.shape[1:]), features.dtype)
        self._arrived = np.zeros(total, bool)

    def put(self, start: int, images: np.ndarray, features: np.ndarray) -> None:
        stop = start + len(images)
        if len(self._arrived) < stop or images.shape[1:] != self._images.shape[1:]:
            raise WorkerError(
                f"Support images {start} to {stop} of shape {images.shape[1:]} do not fit a "
                f"version of shape {self._images.shape}."
            )
        self._images[start:stop], self._features[start:stop] = images, features
        self._arrived[start:stop] = True

    def take(self, index: np.ndarray) -> PreparedImages:
        if index.size and not 0 <= index.min() <= index.max() < len(self._arrived):
            raise WorkerError(f"An index lies outside the support of {len(self._arrived)} images.")
        if not self._arrived[index].all():
            raise RowsMissing("Support images of this version are not on this worker.")
        return PreparedImages(
            self._images[index], self._features[index], source=self._source, numbers=index
        )
