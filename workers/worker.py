"""A worker without its transport: requests in, replies out, one block at a time."""

import collections
import dataclasses
import os
import threading

import numpy as np

from kipper.common import messages
from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import KipperError, WorkerError
from kipper.common.messages import PROTOCOL_VERSION, SUPPORT_KEY, Failure, Reply, Request
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages, Pullback
from kipper.workers.prepared_rows import PreparedRows
from kipper.workers.row_store import RowsMissing, RowStore
from kipper.workers.support_versions import SupportVersions

# Linearising a block keeps its residuals until the cotangent comes, which saves the backward phase
# a second forward (docs/gradient.md). The choice depends on the block's shape alone, so that every
# worker makes the same one and bits agree.
MAX_RESIDUAL_BYTES_PER_BLOCK = 256 * 2**20
MAX_RESIDUAL_BYTES = 2**30

# Cancellations remembered: those of blocks that had been answered already are never asked for.
_CANCELLED_KEPT = 1000
_LONGEST_MESSAGE = 4000


class Worker:
    """Answers the requests of `messages.py`.

    `handle` may be called from several threads: blocks wait for each other, as they would for the
    device, and everything else does not wait for blocks.

    Args:
        store: of rows, if it is shared.
        threads: that a native engine may use; what the coordinator says if not given, and all
            cores if it says nothing.
    """

    def __init__(self, store: RowStore | None = None, threads: int | None = None):
        self._store = RowStore() if store is None else store
        self._threads = threads
        self._compute = threading.Lock()
        self._residuals = _Residuals(MAX_RESIDUAL_BYTES)
        self._cancelled = _Cancelled()
        self._configured: _Configured | None = None

    def handle(self, request: Request) -> Reply:
        """The reply to one request; a failure is a reply too, and leaves the worker usable."""
        try:
            return self._answer(request)
        except RowsMissing as error:
            return _failure(messages.MISSING, str(error))
        except KipperError as error:
            return _failure(messages.FAILED, str(error))
        except Exception as error:  # XLA raises many kinds; the coordinator decides what follows
            return _failure(messages.FAILED, f"{type(error).__name__}: {error}")

    def _answer(self, request: Request) -> Reply:
        match request:
            case messages.Configure():
                return self._configure(request)
            case messages.Probe():
                with self._compute:
                    return self._probe(request)
            case messages.PutRows(key, total, index, rows):
                self._store.put(key, total, index, rows)
                return messages.Done()
            case messages.PutSupport():
                self._residuals.drop_before(self._ready().support.put(request))
                return messages.Done()
            case messages.Cancel(block):
                self._cancelled.add(block)
                return messages.Done()
            case messages.Block() | messages.BlockVjp() | messages.Prepare():
                with self._compute:
                    return self._compute_block(request)

    def _configure(self, request: messages.Configure) -> Reply:
        if request.protocol_version != PROTOCOL_VERSION:
            return Failure(
                kind=messages.REFUSED,
                message=f"The coordinator speaks protocol {request.protocol_version} and this "
                f"worker {PROTOCOL_VERSION}; install the same kipper on both.",
            )
        architecture = architecture_named(request.architecture)
        spec = KernelSpec(architecture, request.kind, request.dtype)
        threads = self._threads or request.threads or os.cpu_count() or 1
        with self._compute:
            engine = make_engine(request.engine, spec, threads)
            rows = PreparedRows(engine, self._store, spec.dtype)
            self._configured = _Configured(engine, rows, SupportVersions(engine, spec.dtype))
            self._residuals.clear()
            self._cancelled = _Cancelled()  # another coordinator's numbers
        return messages.Configured(
            engine=engine.name, device=device_description(), row_keys=self._store.keys()
        )

    def _ready(self) -> "_Configured":
        if self._configured is None:
            raise WorkerError("This worker has not been told which kernel to compute.")
        return self._configured

    def _probe(self, request: messages.Probe) -> messages.KernelBlock:
        engine = self._ready().engine
        x1, x2 = (PreparedImages(x, engine.features(x)) for x in (request.x1, request.x2))
        return messages.KernelBlock(kernel=engine.block(x1, x2))

    def _compute_block(
        self, request: messages.Block | messages.BlockVjp | messages.Prepare
    ) -> Reply:
        if self._cancelled.remove(request.block):
            return Failure(kind=messages.CANCELLED, message="The block was taken back.")
        if isinstance(request, messages.Block):
            return self._block(request)
        if isinstance(request, messages.BlockVjp):
            return self._block_vjp(request)
        self._ready().rows.take(request.columns_key, request.columns)
        return messages.Done()

    def _images(
        self, request: messages.Block | messages.BlockVjp
    ) -> tuple[Engine, PreparedImages, PreparedImages, bool]:
        """The engine, the images of the block's rows and columns, and whether both are support."""
        ready = self._ready()
        index = np.arange(request.start, request.stop)
        rows = ready.support.take(request.version, index)
        both = request.columns_key == SUPPORT_KEY
        if both:
            return ready.engine, rows, ready.support.take(request.version, request.columns), True
        columns = ready.rows.take(request.columns_key, request.columns)
        return ready.engine, rows, columns, False

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


def _failure(kind: str, message: str) -> Failure:
    """XLA's messages may be as long as a program."""
    return Failure(kind=kind, message=message[:_LONGEST_MESSAGE])


def device_description() -> str:
    """What decides the bits of a result: like devices compute equal ones."""
    import jax

    from kipper.workers.native_library import runnable_levels

    level = next(iter(runnable_levels()), "no native kernels")
    return f"{jax.devices()[0].device_kind}, {level}, {os.cpu_count()} cores, jax {jax.__version__}"


@dataclasses.dataclass(frozen=True)
class _Configured:
    engine: Engine
    rows: PreparedRows
    support: SupportVersions


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


class _Cancelled:
    """Numbers of blocks that nobody waits for any more."""

    def __init__(self) -> None:
        self._blocks: collections.OrderedDict[int, None] = collections.OrderedDict()
        self._lock = threading.Lock()

    def add(self, block: int) -> None:
        with self._lock:
            self._blocks[block] = None
            while len(self._blocks) > _CANCELLED_KEPT:
                self._blocks.popitem(last=False)

    def remove(self, block: int) -> bool:
        """Whether the block was cancelled; it is not any more."""
        with self._lock:
            return self._blocks.pop(block, 0) is None
