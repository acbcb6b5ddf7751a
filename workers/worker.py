"""A worker without its transport: requests in, replies out, one block at a time."""

import collections
import threading

import numpy as np

from kipper.common import messages
from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import KipperError, WorkerError
from kipper.common.messages import PROTOCOL_VERSION, SUPPORT_KEY, Reply, Request
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages, Pullback
from kipper.workers.prepared_rows import PreparedRows
from kipper.workers.row_store import RowStore

# Linearising a block keeps its residuals until the cotangent comes, which saves the backward phase
# a second forward (docs/gradient.md). The choice depends on the block's shape alone, so that every
# worker makes the same one and bits agree.
MAX_RESIDUAL_BYTES_PER_BLOCK = 256 * 2**20
MAX_RESIDUAL_BYTES = 2**30

# Step versions of the support images kept: the newest, and one that late blocks may still name.
_VERSIONS_KEPT = 2


class Worker:
    """Answers the requests of `messages.py`.

    `handle` may be called from several threads: blocks wait for each other, as they would for the
    device, and everything else does not wait for blocks.
    """

    def __init__(self, store: RowStore | None = None):
        self._store = RowStore() if store is None else store
        self._compute = threading.Lock()
        self._support: dict[int, PreparedImages] = {}
        self._residuals = _Residuals(MAX_RESIDUAL_BYTES)
        self._engine: Engine | None = None
        self._rows: PreparedRows
        self._dtype = ""

    def handle(self, request: Request) -> Reply:
        """The reply to one request; a failure is a reply too, and leaves the worker usable."""
        try:
            return self._answer(request)
        except KipperError as error:
            return messages.Failure(message=str(error))
        except Exception as error:  # XLA raises many kinds; the coordinator decides what follows
            return messages.Failure(message=f"{type(error).__name__}: {error}")

    def _answer(self, request: Request) -> Reply:
        match request:
            case messages.Configure():
                return self._configure(request)
            case messages.PutRows(key, start, total, rows):
                self._store.put(key, start, total, rows)
                return messages.Done()
            case messages.PutSupport():
                return self._put_support(request)
            case messages.Block():
                with self._compute:
                    return self._block(request)
            case messages.BlockVjp():
                with self._compute:
                    return self._block_vjp(request)

    def _configure(self, request: messages.Configure) -> messages.Configured:
        import jax

        if request.protocol_version != PROTOCOL_VERSION:
            raise WorkerError(
                f"The coordinator speaks protocol {request.protocol_version} and this worker "
                f"{PROTOCOL_VERSION}; install the same kipper on both."
            )
        architecture = architecture_named(request.architecture)
        spec = KernelSpec(architecture, request.kind, request.dtype)
        with self._compute:
            self._engine = make_engine(request.engine, spec, request.threads)
            self._rows = PreparedRows(self._engine, self._store, spec.dtype)
            self._dtype = spec.dtype
            self._support.clear()
            self._residuals.clear()
        return messages.Configured(
            engine=self._engine.name,
            device=jax.devices()[0].device_kind,
            row_keys=self._store.keys(),
        )

    def _put_support(self, request: messages.PutSupport) -> messages.Done:
        if self._engine is None or request.images.dtype.name != self._dtype:
            raise WorkerError(
                f"Support images arrived as {request.images.dtype}, the kernel is {self._dtype}."
            )
        features = self._engine.features(request.images)
        self._support[request.version] = PreparedImages(request.images, features)
        for version in sorted(self._support)[:-_VERSIONS_KEPT]:
            del self._support[version]
        self._residuals.drop_before(request.version)
        return messages.Done()

    def _images(
        self, request: messages.Block | messages.BlockVjp
    ) -> tuple[Engine, PreparedImages, PreparedImages, bool]:
        """The engine, the images of the block's rows and columns, and whether both are support."""
        if self._engine is None or request.version not in self._support:
            raise WorkerError(f"Support version {request.version} is not on this worker.")
        support = self._support[request.version]
        rows = support.take(slice(request.start, request.stop))
        both = request.columns_key == SUPPORT_KEY
        if both:
            return self._engine, rows, support.take(request.columns), True
        columns = self._rows.take(request.columns_key, request.columns)
        return self._engine, rows, columns, False

    def _block(self, request: messages.Block) -> messages.KernelBlock:
        engine, rows, columns, both = self._images(request)
        if not request.linearise:
            return messages.KernelBlock(kernel=engine.block(rows, columns))
        residual_bytes = engine.residual_bytes(rows, columns, both)
        if residual_bytes is None or residual_bytes > MAX_RESIDUAL_BYTES_PER_BLOCK:
            return messages.KernelBlock(kernel=engine.block(rows, columns))
        kernel, pullback = engine.linearise(rows, columns, both)
        self._residuals.keep(_block_key(request), pullback, residual_bytes)
        return messages.KernelBlock(kernel=kernel)

    def _block_vjp(self, request: messages.BlockVjp) -> messages.ImageCotangents:
        pullback = self._residuals.take(_block_key(request))
        if pullback is not None:
            return _image_cotangents(pullback(request.cotangent))
        engine, rows, columns, both = self._images(request)
        residual_bytes = engine.residual_bytes(rows, columns, both)
        if residual_bytes is None or residual_bytes > MAX_RESIDUAL_BYTES_PER_BLOCK:
            _, cotangents = engine.block_vjp(rows, columns, request.cotangent, both)
            return _image_cotangents(cotangents)
        _, pullback = engine.linearise(rows, columns, both)
        return _image_cotangents(pullback(request.cotangent))


def _image_cotangents(cotangents: tuple[np.ndarray, ...]) -> messages.ImageCotangents:
    rows = cotangents[0]
    columns = cotangents[1] if len(cotangents) == 2 else rows[:0]
    return messages.ImageCotangents(rows=rows, columns=columns)


_BlockKey = tuple[int, int, int, str, bytes]


def _block_key(request: messages.Block | messages.BlockVjp) -> _BlockKey:
    return (
        request.version,
        request.start,
        request.stop,
        request.columns_key,
        request.columns.tobytes(),
    )


class _Residuals:
    """Pullbacks waiting for their cotangents, the oldest dropped where memory would run over."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._kept: collections.OrderedDict[_BlockKey, tuple[Pullback, int]] = (
            collections.OrderedDict()
        )
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, key: _BlockKey, pullback: Pullback, size: int) -> None:
        self.take(key)
        with self._lock:
            self._kept[key] = pullback, size
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, (_, dropped) = self._kept.popitem(last=False)
                self._bytes -= dropped

    def take(self, key: _BlockKey) -> Pullback | None:
        with self._lock:
            pullback, size = self._kept.pop(key, (None, 0))
            self._bytes -= size
            return pullback

    def drop_before(self, version: int) -> None:
        with self._lock:
            stale = [key for key in self._kept if key[0] < version]
        for key in stale:
            self.take(key)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0
