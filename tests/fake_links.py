"""Worker links that answer from a thread, in random order, without any kernel."""

import concurrent.futures
import random
import threading
from collections.abc import Callable

import numpy as np

from kipper.common import messages
from kipper.common.messages import Reply, Request

# What a behaviour returns to say: answer as a worker would.
Behaviour = Callable[[Request], Reply | Exception | None]


def kernel_of(request: messages.Block | messages.BlockVjp) -> np.ndarray:
    """A stand-in for a kernel block, (rows, columns), different for every request."""
    rows = np.arange(request.start, request.stop)
    return 1000.0 * request.version + 10.0 * rows[:, None] + request.columns[None, :]


def cotangents_of(request: messages.BlockVjp, image_shape: tuple[int, ...]) -> np.ndarray:
    """A stand-in for the cotangents of the rows, (rows, h, w, c)."""
    sums = (kernel_of(request) * request.cotangent).sum(1)
    return np.broadcast_to(sums[:, None, None, None], (len(sums), *image_shape)).copy()


def _nothing_special(request: Request) -> None:
    return None


class FakeLink:
    """A `WorkerLink` that records what it was asked and notes what a worker could not have done.

    Args:
        name: of the worker.
        row_keys: row sets the worker says it holds already.
        behaviour: a reply or exception instead of the usual answer, or None for that.
        held: requests not to be answered before `release` is called.
    """

    def __init__(
        self,
        name: str,
        row_keys: tuple[str, ...] = (),
        behaviour: Behaviour = _nothing_special,
        held: Callable[[Request], bool] = lambda request: False,
    ):
        self.name = name
        self.requests: list[Request] = []
        self.faults: list[str] = []
        self.closed = False
        self._row_keys = row_keys
        self._behaviour = behaviour
        self._held = held
        self._support: dict[int, np.ndarray] = {}
        self._waiting: list[tuple[Request, concurrent.futures.Future[Reply]]] = []
        self._random = random.Random(name)
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, daemon=True).start()

    def submit(self, request: Request) -> "concurrent.futures.Future[Reply]":
        future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        with self._changed:
            if isinstance(request, messages.Block | messages.BlockVjp):
                self._check_block(request)
            self.requests.append(request)
            self._waiting.append((request, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify()

    def release(self) -> None:
        """Answers what was held, and holds nothing more."""
        with self._changed:
            self._held = lambda request: False
            self._changed.notify()

    def requests_of(self, kind: type) -> list:
        return [request for request in self.requests if isinstance(request, kind)]

    @property
    def idle(self) -> bool:
        """Whether everything but what is held has been answered."""
        with self._changed:
            return not self._answerable()

    def _check_block(self, request: messages.Block | messages.BlockVjp) -> None:
        if request.version not in self._support:
            self.faults.append(f"a block of version {request.version} came before its images")
        out = sum(isinstance(r, messages.Block | messages.BlockVjp) for r, _ in self._waiting)
        if out >= 2:
            self.faults.append(f"{out + 1} blocks were out at once")

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
                    engine="fake", device="none", row_keys=list(self._row_keys)
                )
            case messages.PutSupport(version, images):
                self._support[version] = images
                return messages.Done()
            case messages.Block():
                return messages.KernelBlock(kernel=kernel_of(request).astype(np.float32))
            case messages.BlockVjp():
                shape = self._support[request.version].shape[1:]
                rows = cotangents_of(request, shape).astype(np.float32)
                return messages.ImageCotangents(rows=rows, columns=rows[:0])
            case _:
                return messages.Done()
