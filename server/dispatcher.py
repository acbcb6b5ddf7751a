"""Which worker gets which block, and what happens when one fails: pure logic.

Rule 1: this file knows no transport, threads, clock or randomness. Events come in with the time
        they happened; instructions go out, and the caller carries them out.
Rule 2: a queued block ends in exactly one of two ways: it is reported finished once, or the run
        is aborted. Later answers to a finished block are ignored.
Rule 3: a worker is sent blocks only while it is ready, and never more than `window` at a time.
Rule 4: a block goes back to the front of the queue when its worker is lost, answers with a
        failure, or lets its deadline pass. A worker that let a deadline pass gets nothing more
        until it answers something. A block that came back `MAX_ATTEMPTS` times aborts the run.
Rule 5: a block goes to the worker it prefers (the one that kept its residuals), unless another
        worker would otherwise be idle.
"""

import collections
import dataclasses
from collections.abc import Hashable

BlockId = Hashable

MAX_ATTEMPTS = 3
# A first block includes compilation, which takes a minute for deep pooled kernels.
FIRST_DEADLINE_SECONDS = 900.0
# Afterwards: generous against noise, as a block that is merely late costs only its recomputation.
DEADLINE_FACTOR = 20.0
MIN_DEADLINE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class WorkerReady:
    """The worker holds all that the coming blocks name."""

    worker: str


@dataclasses.dataclass(frozen=True)
class WorkerLost:
    """The worker cannot be reached or used; its blocks need another."""

    worker: str
    reason: str


@dataclasses.dataclass(frozen=True)
class WorkersPaused:
    """No worker is ready any more: each needs the next support version first."""


@dataclasses.dataclass(frozen=True)
class BlocksQueued:
    """New blocks, in order, each with the worker it prefers, if any."""

    blocks: tuple[tuple[BlockId, str | None], ...]


@dataclasses.dataclass(frozen=True)
class BlockFinished:
    """A worker answered with the block's result."""

    worker: str
    block: BlockId


@dataclasses.dataclass(frozen=True)
class BlockFailed:
    """A worker answered that it could not compute the block."""

    worker: str
    block: BlockId
    message: str


@dataclasses.dataclass(frozen=True)
class Tick:
    """Time passed and nothing else happened."""


Event = WorkerReady | WorkerLost | WorkersPaused | BlocksQueued | BlockFinished | BlockFailed | Tick


@dataclasses.dataclass(frozen=True)
class SendBlock:
    """Send the block to the worker now."""

    worker: str
    block: BlockId


@dataclasses.dataclass(frozen=True)
class AcceptResult:
    """This answer is the first for its block: use it."""

    block: BlockId


@dataclasses.dataclass(frozen=True)
class Abort:
    """The run cannot go on; `reason` is for the user."""

    reason: str


Instruction = SendBlock | AcceptResult | Abort


@dataclasses.dataclass
class _WorkerState:
    ready: bool = False
    stalled: bool = False  # let a deadline pass and has not answered since
    out: dict[BlockId, float] = dataclasses.field(default_factory=dict)  # block -> time sent


class Dispatcher:
    """Turns events into instructions; see the rules at the head of this file."""

    def __init__(self, workers: list[str], window: int = 2):
        self._workers = {name: _WorkerState() for name in workers}
        self._window = window
        self._queue: collections.deque[BlockId] = collections.deque()
        self._preferred: dict[BlockId, str] = {}
        self._attempts: dict[BlockId, int] = {}  # unfinished blocks and how often they came back
        self._longest_seconds: float | None = None

    @property
    def num_unfinished(self) -> int:
        return len(self._attempts)

    @property
    def workers(self) -> list[str]:
        """Names of the workers not lost."""
        return list(self._workers)

    @property
    def capacity(self) -> int:
        """How many blocks may be out at once, were every worker ready."""
        return self._window * len(self._workers)

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """What to do after `event`, which happened at `now` (seconds, any monotonic origin)."""
        before = self._apply(event, now)
        return before if any(isinstance(i, Abort) for i in before) else before + self._send(now)

    def _apply(self, event: Event, now: float) -> list[Instruction]:
        match event:
            case WorkerReady(worker):
                if worker in self._workers:
                    self._workers[worker].ready = True
                return []
            case WorkersPaused():
                for state in self._workers.values():
                    state.ready = False
                return []
            case WorkerLost(worker, reason):
                return self._lose(worker, reason)
            case BlocksQueued(blocks):
                for block, preferred in blocks:
                    self._attempts[block] = 0
                    self._queue.append(block)
                    if preferred is not None:
                        self._preferred[block] = preferred
                return []
            case BlockFinished(worker, block):
                return self._finish(worker, block, now)
            case BlockFailed(worker, block, message):
                if self._answered(worker, block) is None:  # its deadline had passed: counted then
                    return []
                return self._return_block(block, f"worker {worker} failed: {message}")
            case Tick():
                return self._pass_deadlines(now)

    def _answered(self, worker: str, block: BlockId) -> float | None:
        """Notes that a worker is alive; the time the block was sent to it, if it was out there."""
        state = self._workers.get(worker)
        if state is None:
            return None
        state.stalled = False
        return state.out.pop(block, None)

    def _finish(self, worker: str, block: BlockId, now: float) -> list[Instruction]:
        sent = self._answered(worker, block)
        if sent is not None:
            self._longest_seconds = max(self._longest_seconds or 0.0, now - sent)
        if block not in self._attempts:
            return []
        self._forget(block)
        return [AcceptResult(block)]

    def _forget(self, block: BlockId) -> None:
        del self._attempts[block]
        self._preferred.pop(block, None)
        if block in self._queue:  # it had been returned, and the late answer came all the same
            self._queue.remove(block)

    def _lose(self, worker: str, reason: str) -> list[Instruction]:
        state = self._workers.pop(worker, None)
        if state is None:
            return []
        if not self._workers:
            return [Abort(f"no worker is left; the last, {worker}, was lost: {reason}")]
        aborts: list[Instruction] = []
        for block in reversed(state.out):
            aborts += self._return_block(block, f"worker {worker} was lost: {reason}")
        return aborts

    def _return_block(self, block: BlockId, reason: str) -> list[Instruction]:
        if block not in self._attempts or block in self._queue:
            return []
        self._attempts[block] += 1
        if self._attempts[block] >= MAX_ATTEMPTS:
            return [Abort(f"a block failed {MAX_ATTEMPTS} times, the last time because {reason}")]
        self._preferred.pop(block, None)
        self._queue.appendleft(block)
        return []

    def _pass_deadlines(self, now: float) -> list[Instruction]:
        limit = FIRST_DEADLINE_SECONDS
        if self._longest_seconds is not None:
            limit = max(MIN_DEADLINE_SECONDS, DEADLINE_FACTOR * self._longest_seconds)
        aborts: list[Instruction] = []
        for worker, state in self._workers.items():
            late = [block for block, sent in state.out.items() if now - sent > limit]
            for block in late:
                state.stalled = True
                del state.out[block]
                aborts += self._return_block(
                    block, f"worker {worker} did not answer within {limit:.0f} s"
                )
        if self._attempts and all(state.stalled for state in self._workers.values()):
            aborts.append(Abort("every worker has stopped answering"))
        return aborts

    def _send(self, now: float) -> list[Instruction]:
        """Fills the windows, one block a worker and round, so that few blocks spread out."""
        sent: list[Instruction] = []
        for choose in (self._bound_to, self._unbound, self._stolen_by):
            progress = True
            while self._queue and progress:
                progress = False
                for worker, state in self._workers.items():
                    block = choose(worker) if self._is_free(state) else None
                    if block is not None:
                        self._queue.remove(block)
                        state.out[block] = now
                        sent.append(SendBlock(worker, block))
                        progress = True
        return sent

    def _is_free(self, state: _WorkerState) -> bool:
        return state.ready and not state.stalled and len(state.out) < self._window

    def _bound_to(self, worker: str) -> BlockId | None:
        return next((b for b in self._queue if self._preferred.get(b) == worker), None)

    def _unbound(self, worker: str) -> BlockId | None:
        del worker  # any will do
        return next((b for b in self._queue if self._preferred.get(b) not in self._workers), None)

    def _stolen_by(self, worker: str) -> BlockId | None:
        """What its preferred worker, whose window is full, would come to last."""
        if self._workers[worker].out or not self._queue:
            return None
        return self._queue[-1]
