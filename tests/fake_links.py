"""Worker links that answer from a thread, in random order, without any kernel."""

import concurrent.futures
import random
import threading
from collections.abc import Callable

import numpy as np

from kipper.common import messages
from kipper.common.messages import SUPPORT_KEY, Reply, Request

# A behaviour returns this to have the link answer as a worker would.
Behaviour = Callable[[Request], Reply | Exception | None]

BLOCK_KINDS = (messages.Block, messages.BlockVjp)


def kernel_of(request: messages.Block | messages.BlockVjp) -> np.ndarray:
    """Stands in for a kernel block, (rows, columns); different for every request."""
    rows = np.arange(request.start, request.stop)
    return 1000.0 * request.version + 10.0 * rows[:, None] + request.columns[None, :]


def cotangents_of(request: messages.BlockVjp, image_shape: tuple[int, ...]) -> np.ndarray:
    """Stands in for the cotangents of the rows, (rows, h, w, c)."""
    sums = (kernel_of(request) * request.cotangent).sum(1)
    return np.broadcast_to(sums[:, None, None, None], (len(sums), *image_shape)).copy()


def lie(request: Request) -> Reply | None:
    """A behaviour that returns slightly wrong kernels."""
    if isinstance(request, messages.Block):
        return messages.KernelBlock(kernel=kernel_of(request).astype(np.float32) + 1)
    return None


def _nothing_special(request: Request) -> None:
    return None


class FakeLink:
    """A `WorkerLink` that records requests and notes those that a worker could not have answered.

    Attributes:
        requests: all, in order of arrival.
        faults: blocks that exceeded the number a worker may have.
        resent: rows and support images that were sent again.

    Args:
        name: of the worker.
        row_keys: row sets that the worker reports to hold.
        behaviour: returns an answer or exception, or None for the usual answer.
        held: whether a request is not answered before `release` is called.
        device: the device that it reports.
        arithmetic: of the numeric identity that it reports.
    """

    def __init__(
        self,
        name: str,
        row_keys: tuple[str, ...] = (),
        behaviour: Behaviour = _nothing_special,
        held: Callable[[Request], bool] = lambda request: False,
        device: str = "none",
        arithmetic: str = "fake arithmetic",
    ):
        self.name = name
        self.requests: list[Request] = []
        self.faults: list[str] = []
        self.resent: list[str] = []
        self.closed = False
        self.host = "somewhere"
        self._row_keys = row_keys
        self._behaviour = behaviour
        self._held = held
        self._device = device
        self._arithmetic = arithmetic
        self._image_shape: tuple[int, ...] = ()
        self._support: set[tuple[int, int]] = set()  # version, image
        self._rows: set[tuple[str, int]] = set()
        self._cancelled: set[int] = set()
        self._waiting: list[tuple[Request, concurrent.futures.Future[Reply]]] = []
        self._random = random.Random(name)
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, daemon=True).start()

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        with self._changed:
            if isinstance(request, BLOCK_KINDS):
                self._check_block(request)
            if isinstance(request, messages.Cancel):
                self._cancelled.add(request.block)
            self.requests.append(request)
            self._waiting.append((request, future))
            self._changed.notify_all()
        return future

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def release(self) -> None:
        """Answers the requests held so far, and holds no more."""
        with self._changed:
            self._held = lambda request: False
            self._changed.notify_all()

    def forget_rows(self) -> None:
        """Forgets everything, as a restarted worker would; the coordinator is not told."""
        with self._changed:
            self._rows.clear()
            self._support.clear()

    def requests_of(self, *kinds: type) -> list:
        with self._changed:
            return [request for request in self.requests if isinstance(request, kinds)]

    def wait_for(self, *kinds: type, number: int = 1) -> None:
        """Waits up to a minute until this many requests of these kinds have come."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: sum(isinstance(request, kinds) for request in self.requests) >= number, 60
            ), self.requests

    @property
    def idle(self) -> bool:
        """Whether every request has been answered except those that are held."""
        with self._changed:
            return not self._answerable()

    def _check_block(self, request: messages.Block | messages.BlockVjp) -> None:
        out = sum(isinstance(r, BLOCK_KINDS) for r, _ in self._waiting)
        if out >= 2:
            self.faults.append(f"{out + 1} blocks were out at once")

    def _lacks(self, request: messages.Block | messages.BlockVjp) -> bool:
        images = set(range(request.start, request.stop))
        if request.columns_key == SUPPORT_KEY:
            images |= set(request.columns.tolist())
        elif request.columns_key not in self._row_keys:
            columns = {(request.columns_key, row) for row in request.columns.tolist()}
            if columns - self._rows:
                return True
        return bool({(request.version, image) for image in images} - self._support)

    def _answerable(self) -> list[tuple[Request, "concurrent.futures.Future[Reply]"]]:
        return [entry for entry in self._waiting if not self._held(entry[0])]

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.closed or self._answerable())
                if self.closed:
                    return
                request, future = self._random.choice(self._answerable())
                answer = self._behaviour(request) or self._usual_answer(request)
                self._waiting = [entry for entry in self._waiting if entry[1] is not future]
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _usual_answer(self, request: Request) -> Reply:
        match request:
            case messages.Configure():
                return messages.Configured(
                    engine="fake",
                    device=self._device,
                    arithmetic=self._arithmetic,
                    check="",
                    row_keys=list(self._row_keys),
                )
            case messages.Probe(x1, x2):
                return messages.KernelBlock(kernel=probe_kernel(x1, x2))
            case messages.PutSupport(version, _, _, _, start, images):
                self._image_shape = images.shape[1:]
                came = {(version, start + i) for i in range(len(images))}
                self.resent += [f"image {image} of {v}" for v, image in came & self._support]
                self._support |= came
                return messages.Done()
            case messages.PutRows(key, _, index, _):
                rows = {(key, row) for row in index.tolist()}
                self.resent += [f"row {row} of {k}" for k, row in rows & self._rows]
                self._rows |= rows
                return messages.Done()
            case messages.Block() | messages.BlockVjp():
                return self._answer_block(request)
            case _:
                return messages.Done()

    def _answer_block(self, request: messages.Block | messages.BlockVjp) -> Reply:
        if request.block in self._cancelled:
            self._cancelled.discard(request.block)
            return messages.Failure(kind=messages.CANCELLED, message="taken back")
        if self._lacks(request):
            return messages.Failure(kind=messages.MISSING, message="not here")
        if isinstance(request, messages.Block):
            return messages.KernelBlock(kernel=kernel_of(request).astype(np.float32))
        rows = cotangents_of(request, self._image_shape).astype(np.float32)
        columns = rows[:0]
        if request.columns_key == SUPPORT_KEY:
            columns = np.zeros((len(request.columns), *self._image_shape), np.float32)
        return messages.ImageCotangents(rows=rows, columns=columns)


def probe_kernel(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """The answer of fake workers to a `Probe`, (n, m)."""
    return 1 + x1.reshape(len(x1), -1) @ x2.reshape(len(x2), -1).T
