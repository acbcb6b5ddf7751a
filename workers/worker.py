"""A worker apart from its transport: turns requests into replies."""

import collections
import dataclasses
import threading

import numpy as np
from absl import logging

from kipper.common import logs, messages
from kipper.common.architecture import KernelSpec, architecture_asked_for
from kipper.common.cores import usable_cores
from kipper.common.engines import blocks_at_once
from kipper.common.errors import KipperError, UserError, WorkerError
from kipper.common.memory import usable_memory
from kipper.common.messages import PROTOCOL_VERSION, SUPPORT_KEY, Failure, Reply, Request
from kipper.workers.augmented_rows import AugmentedRows
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages, Pullback
from kipper.workers.numerics import numerics_of
from kipper.workers.prepared_rows import PreparedRows
from kipper.workers.row_store import RowsMissing, RowStore
from kipper.workers.support_versions import SupportVersions
from kipper.workers.turns import Turns

# A linearised block keeps its residuals until its cotangent arrives, so that the backward phase
# does not repeat the forward phase (docs/gradient.md). Whether a block is linearised depends on its
# shape only, so that all workers decide alike and give equal bits.
MAX_RESIDUAL_BYTES_PER_BLOCK = 256 * 2**20
# The share of the memory of all cores for the residuals of all blocks. Where that does not suffice,
# the oldest are dropped and computed again, with equal bits.
_RESIDUAL_SHARE = 1 / 4

# A limit, because cancellations of blocks that were already answered are never used.
_CANCELLED_KEPT = 1000
_LONGEST_MESSAGE = 4000


class Worker:
    """Answers the requests of `messages.py`.

    `handle` may be called from several threads. Blocks run one after another, since they share the
    device; on a GPU two at once, so that one is copied while the other is computed. Other requests
    do not wait for blocks.

    Args:
        store: the row store, if workers share one.
        threads: the number that a native engine may use; by default what the coordinator says, or
            else all cores.
    """

    def __init__(self, store: RowStore | None = None, threads: int | None = None):
        self._store = RowStore() if store is None else store
        self._threads = threads
        self._turns = Turns()
        self._preparing = threading.Lock()  # target rows are for one thread at a time
        self._residuals = _Residuals(0)
        self._cancelled = _Cancelled()
        self._configured: _Configured | None = None

    def handle(self, request: Request) -> Reply:
        """Answers one request; failures are replies too, and leave the worker usable."""
        with logs.about(**self._subject(request)):
            return self._answer_or_failure(request)

    def _subject(self, request: Request) -> dict[str, str | int]:
        """The run, step and block for log lines."""
        about: dict[str, str | int] = {}
        if self._configured is not None:
            if self._configured.run:
                about["run"] = self._configured.run
            step = self._configured.support.step_of(getattr(request, "version", 0))
            if step is not None:
                about["step"] = step
        block = getattr(request, "block", None)
        if block is not None:
            about["block"] = block
        return about

    def _answer_or_failure(self, request: Request) -> Reply:
        try:
            return self._answer(request)
        except RowsMissing as error:
            return _failure(messages.MISSING, str(error))
        except KipperError as error:
            return _failure(messages.FAILED, str(error))
        except Exception as error:  # XLA raises many types; the coordinator decides what to do
            logging.info("The request failed.", exc_info=True)
            return _failure(messages.FAILED, f"{type(error).__name__}: {error}")

    def _answer(self, request: Request) -> Reply:
        match request:
            case messages.Configure():
                try:
                    return self._configure(request)
                except UserError as error:  # a retry would fail in the same way
                    return _failure(messages.REFUSED, str(error))
            case messages.Probe():
                return self._turns.run(lambda: self._probe(request))
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
                return self._turns.run(lambda: self._compute_block(request))

    def _configure(self, request: messages.Configure) -> Reply:
        if request.protocol_version != PROTOCOL_VERSION:
            return Failure(
                kind=messages.REFUSED,
                message=f"The coordinator speaks protocol {request.protocol_version} and this "
                f"worker {PROTOCOL_VERSION}; install the same kipper on both.",
            )
        specs = [
            KernelSpec(architecture_asked_for(name), request.kind, request.dtype)
            for name in request.architectures
        ]
        threads = self._threads or request.threads or usable_cores()
        with self._turns.alone():
            engines = [make_engine(request.engine, spec, threads) for spec in specs]
            kernels = [_Kernel(engine, self._store, request) for engine in engines]
            self._configured = _Configured(
                request.run, kernels, SupportVersions(engines, request.dtype)
            )
            self._turns.most = blocks_at_once([engine.name for engine in engines])
            self._residuals = _Residuals(max_residual_bytes(threads))
            self._cancelled = _Cancelled()  # the old numbers are another coordinator's
            numerics = numerics_of(engines, specs)
        return messages.Configured(
            engine=numerics.engine,
            device=device_description(),
            arithmetic=numerics.arithmetic,
            check=numerics.check,
            row_keys=self._store.keys(),
        )

    def _ready(self) -> "_Configured":
        if self._configured is None:
            raise WorkerError("This worker received a block before it was configured.")
        return self._configured

    def _probe(self, request: messages.Probe) -> messages.KernelBlock:
        engine = self._ready().kernels[0].engine
        x1, x2 = (PreparedImages(x, engine.features(x)) for x in (request.x1, request.x2))
        return messages.KernelBlock(kernel=engine.block(x1, x2).astype(x1.images.dtype, copy=False))

    def _compute_block(
        self, request: messages.Block | messages.BlockVjp | messages.Prepare
    ) -> Reply:
        if self._cancelled.remove(request.block):
            return Failure(kind=messages.CANCELLED, message="The block was cancelled.")
        if isinstance(request, messages.Block):
            return self._block(request)
        if isinstance(request, messages.BlockVjp):
            return self._block_vjp(request)
        kernels = self._ready().kernels
        if not 0 <= request.kernel < len(kernels):
            raise WorkerError(f"There is no kernel {request.kernel}; {len(kernels)} are known.")
        with self._preparing:
            kernels[request.kernel].columns(request)
        return messages.Done()

    def _images(
        self, request: messages.Block | messages.BlockVjp
    ) -> tuple[Engine, PreparedImages, PreparedImages, bool]:
        """The engine, the images of the block's rows and columns, and whether both are support."""
        ready = self._ready()
        kernel = ready.kernels[ready.support.kernel_of(request.version)]
        index = np.arange(request.start, request.stop)
        rows = ready.support.take(request.version, index)
        if request.columns_key == SUPPORT_KEY:
            return kernel.engine, rows, ready.support.take(request.version, request.columns), True
        with self._preparing:
            return kernel.engine, rows, kernel.columns(request), False

    def _block(self, request: messages.Block) -> messages.KernelBlock:
        engine, rows, columns, both = self._images(request)
        # Distances of support images may be below the rounding of float32.
        dtype = np.dtype(np.float64) if both else rows.images.dtype
        residual_bytes = engine.residual_bytes(rows, columns, both) if request.linearise else None
        if residual_bytes is None or residual_bytes > MAX_RESIDUAL_BYTES_PER_BLOCK:
            kernel = engine.block(rows, columns)
        else:
            kernel, pullback = engine.linearise(rows, columns, both)
            self._residuals.keep(_block_key(request), pullback, residual_bytes)
        return messages.KernelBlock(kernel=kernel.astype(dtype, copy=False))

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
    # XLA's messages can be as long as a program.
    return Failure(kind=kind, message=message[:_LONGEST_MESSAGE])


def max_residual_bytes(threads: int) -> int:
    """The most that a worker keeps for its blocks' cotangents, by its share of the cores."""
    cores = usable_cores()
    return int(_RESIDUAL_SHARE * usable_memory() * min(threads, cores) / cores)


def device_description() -> str:
    """The device and its machine, for display."""
    import jax

    from kipper.workers.native_library import runnable_levels

    level = next(iter(runnable_levels()), "no native kernels")
    return f"{jax.devices()[0].device_kind}, {level}, {usable_cores()} cores, jax {jax.__version__}"


class _Kernel:
    """One of a run's kernels, with target rows prepared for it."""

    def __init__(self, engine: Engine, store: RowStore, configure: messages.Configure):
        self.engine = engine
        self._rows = PreparedRows(engine, store, configure.dtype)
        self._augmented = AugmentedRows(engine, store, configure) if configure.augment else None

    def columns(
        self, request: messages.Block | messages.BlockVjp | messages.Prepare
    ) -> PreparedImages:
        """The block's columns, which are target rows."""
        if request.draw == messages.UNCHANGED:
            return self._rows.take(request.columns_key, request.columns)
        if self._augmented is None:
            raise WorkerError("This worker was not configured to augment target rows.")
        return self._augmented.take(request.columns_key, request.columns, request.draw)


@dataclasses.dataclass(frozen=True)
class _Configured:
    run: str
    kernels: list[_Kernel]
    support: SupportVersions


def _image_cotangents(cotangents: tuple[np.ndarray, ...]) -> messages.ImageCotangents:
    rows = cotangents[0]
    columns = cotangents[1] if len(cotangents) == 2 else rows[:0]
    return messages.ImageCotangents(rows=rows, columns=columns)


_BlockKey = tuple[int, int, int, str, int, bytes]


def _block_key(request: messages.Block | messages.BlockVjp) -> _BlockKey:
    block = request.version, request.start, request.stop, request.columns_key, request.draw
    return *block, request.columns.tobytes()


class _Residuals:
    """Pullbacks that wait for their cotangents; the oldest are dropped at a limit of memory."""

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


class _Cancelled:
    """Numbers of cancelled blocks."""

    def __init__(self) -> None:
        self._blocks: collections.OrderedDict[int, None] = collections.OrderedDict()
        self._lock = threading.Lock()

    def add(self, block: int) -> None:
        with self._lock:
            self._blocks[block] = None
            while len(self._blocks) > _CANCELLED_KEPT:
                self._blocks.popitem(last=False)

    def remove(self, block: int) -> bool:
        """Forgets the block; returns whether it was cancelled."""
        with self._lock:
            return self._blocks.pop(block, 0) is None
