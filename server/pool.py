"""Workers as one device: blocks in, results out in the order they were asked for.

Carries out the dispatcher's instructions over worker links. All state is touched by the calling
thread alone; links hand their answers over through a queue.
"""

import collections
import concurrent.futures
import dataclasses
import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

import numpy as np
from absl import logging

from kipper.common import messages
from kipper.common.errors import WorkerError
from kipper.common.messages import Block, BlockVjp, ImageCotangents, KernelBlock, Reply, Request
from kipper.server import dispatcher as policy
from kipper.server.protocol import WorkerLink
from kipper.server.replies import fault

# Small pieces reuse the transport's buffers: several times the throughput of large ones.
PIECE_BYTES = 2**20
_TICK_SECONDS = 1.0
# Includes JAX's first look at the devices.
_SET_UP_SECONDS = 300.0
# Results held back because an earlier block is still out, as a multiple of the blocks out.
_LOOK_AHEAD = 4

BlockRequest = Block | BlockVjp
BlockReply = KernelBlock | ImageCotangents
_Script = Generator[Request, Reply, None]


@dataclasses.dataclass
class Counts:
    """What the pool has done since it was made."""

    kernel_pairs: int = 0
    vjp_pairs: int = 0
    blocks: int = 0
    workers: int = 0


class Pool:
    """A fixed set of workers that hold the same row sets and the same support images.

    Args:
        links: the workers; the pool closes them.
        configure: which kernel and engine they are to use.
        row_sets: what stays resident on every worker: float32 images (n, h, w, c) by content key.
        on_progress: called between events, at least about once a second while blocks are out.
    """

    def __init__(
        self,
        links: Sequence[WorkerLink],
        configure: messages.Configure,
        row_sets: Mapping[str, np.ndarray],
        on_progress: Callable[[], None] = lambda: None,
    ):
        self._links = {link.name: link for link in links}
        self._configure = configure
        self._row_sets = row_sets
        self._on_progress = on_progress
        self._dispatcher = policy.Dispatcher(list(self._links))
        self._arrivals: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        self._blocks: dict[int, BlockRequest] = {}
        self._results: dict[int, tuple[BlockReply, str]] = {}
        self._offered: tuple[BlockReply, str]  # the answer of which `AcceptResult` speaks
        self._next_block = 0
        self._version = 0
        self._support: np.ndarray | None = None
        self._held_version = dict.fromkeys(self._links, 0)
        self._scripts: dict[str, _Script] = {}
        self._asked: dict[str, tuple[Request, float]] = {}  # set-up requests, with the time
        self._last_tick = time.monotonic()
        self.counts = Counts(workers=len(links))
        self.engines: dict[str, str] = {}
        for name in self._links:
            self._start_script(name, self._set_up(name))

    def publish(self, images: np.ndarray) -> int:
        """Makes `images` (n, h, w, c) the support of the blocks to come; returns their version."""
        self._version += 1
        self._support = images
        self._perform(policy.WorkersPaused())
        for name in self._dispatcher.workers:
            if name not in self._scripts:
                self._start_script(name, self._put_support(name))
        return self._version

    def map(
        self, requests: Iterable[tuple[BlockRequest, str | None]]
    ) -> Iterator[tuple[BlockReply, str]]:
        """Results and who computed them, in the order of the requests.

        Requests come with the worker they prefer, and are drawn lazily: only so many are out or
        waiting for an earlier one that memory stays bounded.

        Raises:
            WorkerError: no worker is left, or a block failed on several.
        """
        source, ended = iter(requests), False
        order: collections.deque[int] = collections.deque()
        while True:
            batch: list[tuple[int, str | None]] = []
            while not ended and len(order) < _LOOK_AHEAD * self._dispatcher.capacity:
                try:
                    request, preferred = next(source)
                except StopIteration:
                    ended = True
                    break
                batch.append((self._enter(request), preferred))
                order.append(batch[-1][0])
            if batch:
                self._perform(policy.BlocksQueued(tuple(batch)))
            while order and order[0] in self._results:
                yield self._results.pop(order.popleft())
            if ended and not order:
                return
            if order and order[0] not in self._results:
                self._await_arrival()

    def close(self) -> None:
        """Lets go of the workers."""
        for link in self._links.values():
            link.close()

    def _enter(self, request: BlockRequest) -> int:
        self._next_block += 1
        self._blocks[self._next_block] = request
        return self._next_block

    # --- what is sent to a worker before it is ready -----------------------------------------

    def _set_up(self, name: str) -> _Script:
        configured = yield self._configure
        assert isinstance(configured, messages.Configured)  # `_arrive` saw to that
        self.engines[name] = configured.engine
        for key, rows in self._row_sets.items():
            if key not in configured.row_keys:
                yield from _pieces(key, rows)
        yield from self._put_support(name)

    def _put_support(self, name: str) -> _Script:
        while self._held_version[name] != self._version:
            version = self._version  # may move on while the request is under way
            assert self._support is not None
            yield messages.PutSupport(version=version, images=self._support)
            self._held_version[name] = version

    def _start_script(self, name: str, script: _Script) -> None:
        self._scripts[name] = script
        self._continue_script(name, None)

    def _continue_script(self, name: str, reply: Reply | None) -> None:
        script = self._scripts[name]
        try:
            request = next(script) if reply is None else script.send(reply)
        except StopIteration:
            del self._scripts[name]
            self._perform(policy.WorkerReady(name))
            return
        self._asked[name] = request, time.monotonic()
        self._submit(name, request, None)

    # --- events --------------------------------------------------------------------------------

    def _submit(self, name: str, request: Request, block: int | None) -> None:
        future = self._links[name].submit(request)
        future.add_done_callback(lambda done: self._arrivals.put(_Arrival(name, block, done)))

    def _await_arrival(self) -> None:
        self._on_progress()
        try:
            arrival = self._arrivals.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            arrival = None
        if arrival is not None and arrival.worker in self._dispatcher.workers:
            self._arrive(arrival)
        if time.monotonic() - self._last_tick > _TICK_SECONDS:
            self._last_tick = time.monotonic()
            self._perform(policy.Tick())
            self._lose_the_silent()

    def _arrive(self, arrival: "_Arrival") -> None:
        worker, block = arrival.worker, arrival.block
        error = arrival.future.exception()
        if error is not None:
            self._lose(worker, str(error) or repr(error))
            return
        reply = arrival.future.result()
        if block is None:
            request, _ = self._asked.pop(worker)
            wrong = fault(request, reply, self._support)
            if wrong is not None:
                self._lose(worker, wrong)
            else:
                self._continue_script(worker, reply)
        elif block not in self._blocks:
            # Finished by another worker long ago; what matters is that this one is free again.
            self._perform(policy.BlockFinished(worker, block))
        else:
            wrong = fault(self._blocks[block], reply, self._support)
            if wrong is not None:
                self._perform(policy.BlockFailed(worker, block, wrong))
                return
            assert isinstance(reply, KernelBlock | ImageCotangents)
            self._offered = reply, worker
            self._perform(policy.BlockFinished(worker, block))

    def _accept_offered(self, block: int) -> None:
        request = self._blocks.pop(block)
        pairs = (request.stop - request.start) * len(request.columns)
        if isinstance(request, Block):
            self.counts.kernel_pairs += pairs
        else:
            self.counts.vjp_pairs += pairs
        self.counts.blocks += 1
        self._results[block] = self._offered

    def _lose_the_silent(self) -> None:
        """Gives up workers that leave a set-up request unanswered."""
        now = time.monotonic()
        for name, (request, asked) in list(self._asked.items()):
            if now - asked > _SET_UP_SECONDS:
                self._lose(
                    name, f"it left {type(request).__name__} unanswered for {now - asked:.0f} s"
                )

    def _lose(self, worker: str, reason: str) -> None:
        logging.warning("Worker %s is lost: %s", worker, reason)
        self.counts.workers -= 1
        self._scripts.pop(worker, None)
        self._asked.pop(worker, None)
        self._perform(policy.WorkerLost(worker, reason))

    def _perform(self, event: policy.Event) -> None:
        for instruction in self._dispatcher.handle(event, time.monotonic()):
            if isinstance(instruction, policy.SendBlock):
                block = instruction.block
                assert isinstance(block, int)
                self._submit(instruction.worker, self._blocks[block], block)
            elif isinstance(instruction, policy.AcceptResult):
                assert isinstance(instruction.block, int)
                self._accept_offered(instruction.block)
            else:
                raise WorkerError(f"The run stopped: {instruction.reason}.")


@dataclasses.dataclass(frozen=True)
class _Arrival:
    worker: str
    block: int | None  # None: the answer to a set-up request
    future: "concurrent.futures.Future[Reply]"


def _pieces(key: str, rows: np.ndarray) -> _Script:
    step = max(1, PIECE_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        yield messages.PutRows(
            key=key, start=start, total=len(rows), rows=rows[start : start + step]
        )
