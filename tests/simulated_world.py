"""Workers that answer, lie, die, return and fall silent, around a real scheduler, in virtual time.

The world plays the pool's part: it keeps answers, compares them, and carries instructions out.
Every event is followed by a check of the scheduler's invariants, and recorded for a replay.
"""

import dataclasses
import json
import math
import random

import scheduler_invariants

from kipper.server.scheduler import events
from kipper.server.scheduler.decoding import decode
from kipper.server.scheduler.events import BlockSpec, Event, Instruction
from kipper.server.scheduler.rules import Policy
from kipper.server.scheduler.scheduler import Scheduler
from kipper.server.scheduler.state import State

BLOCK_BYTES = 100


def truth(block: int) -> int:
    """What an honest worker answers."""
    return 1000 + 7 * block


def spec(block: int, **changes) -> BlockSpec:
    """A block whose rows are one of three row ranges, and its columns one of two."""
    pieces = (f"rows {block % 3}", 50), (f"columns {block % 2}", 30)
    whole = BlockSpec(block, f"shape {block % 2}", 0, pieces, BLOCK_BYTES)
    return dataclasses.replace(whole, **changes)


def same_shape(block: int, **changes) -> BlockSpec:
    """A block like others of its kind, of which `World.warm_up` speaks."""
    return spec(block, shape="shape 0", **changes)


@dataclasses.dataclass(eq=False)
class Errand:
    """A block on its way to a worker, at it, or answered and on its way back.

    Attributes:
        incarnation: of the worker, so that late words of a dead one are recognised.
        cancelled: whether the worker was told that it need not begin.
    """

    worker: str
    incarnation: int
    block: int
    cancelled: bool = False


class World:
    """A coordinator and its workers.

    Attributes:
        present: the incarnation of each worker that is there.
        errands: that have not ended.
        answered: those that ended in an answer, which may come once more.
        queued, withdrawn, optional: blocks.
        tried: blocks that were sent to a worker.
        accepted: what was accepted of each block.
        banned: liars.
        aborted: why, if it was.
        history: each event with its time and what followed.
    """

    def __init__(self, policy: Policy):
        self.scheduler = Scheduler(policy)
        self.now = 100.0
        self.present: dict[str, int] = {}
        self.errands: list[Errand] = []
        self.answered: list[tuple[Errand, int]] = []
        self.queued: set[int] = set()
        self.withdrawn: set[int] = set()
        self.optional: set[int] = set()
        self.tried: set[int] = set()
        self.accepted: dict[int, int] = {}
        self.banned: set[str] = set()
        self.quarantined: dict[int, tuple[str, ...]] = {}
        self.aborted: str | None = None
        self.history: list[tuple[float, Event, list[Instruction]]] = []
        self._policy = policy
        self._answers: dict[int, dict[str, int]] = {}
        self._incarnations = 0

    # --- what a test asks ----------------------------------------------------------------------

    @property
    def sent(self) -> list[tuple[str, int]]:
        """Workers and blocks on whose answer they sit, the oldest first."""
        return [(errand.worker, errand.block) for errand in self.errands]

    def errand(self, worker: str, block: int) -> Errand:
        return next(e for e in self.errands if (e.worker, e.block) == (worker, block))

    def of(self, kind: type) -> list[Instruction]:
        """Instructions of a kind so far."""
        return [one for _, _, then in self.history for one in then if isinstance(one, kind)]

    def warm_up(self, *workers: str, seconds: float = 1.0, shape: str = "shape 0") -> None:
        """Each worker has computed some blocks of the shape, each of which took so long."""
        for _ in range(8):
            for worker in workers:
                self.note_time(worker, seconds, shape)

    def note_time(self, worker: str, seconds: float, shape: str = "shape 0") -> None:
        """The worker has computed a block of the shape in so many seconds."""
        pace = self.scheduler.ledger.workers[worker].pace
        self.scheduler.state.times.add(pace, shape, seconds)

    # --- what may happen -----------------------------------------------------------------------

    def queue(self, specs: list[BlockSpec]) -> None:
        self.queued.update(spec.block for spec in specs)
        self.optional.update(spec.block for spec in specs if spec.optional)
        self.handle(events.BlocksQueued(tuple(specs)))

    def withdraw(self, blocks: list[int]) -> None:
        self.withdrawn.update(block for block in blocks if block not in self.accepted)
        self.handle(events.BlocksWithdrawn(tuple(blocks)))

    def join(self, worker: str) -> None:
        """The worker comes, or comes again: then what it had is gone."""
        if worker in self.banned:
            return
        self._forget(worker)
        self._incarnations += 1
        self.present[worker] = self._incarnations
        self.handle(events.WorkerJoined(worker))

    def leave(self, worker: str) -> None:
        self._forget(worker)
        self.handle(events.WorkerLeft(worker, "it died"))

    def do(self, worker: str, block: int, seconds: float = 1.0, value: int | None = None) -> None:
        """The worker answers after a while, rightly unless a value is given."""
        self.now += seconds
        self.answer(self.errand(worker, block), truth(block) if value is None else value)

    def do_all(self) -> None:
        """Every worker answers whatever it is sent, one block a second."""
        while self.errands and self.aborted is None:
            self.do(*self.sent[0])

    def drain(self, worker: str) -> None:
        self.handle(events.WorkerDraining(worker))

    def answer(self, errand: Errand, value: int) -> None:
        self.errands.remove(errand)
        self.answered.append((errand, value))
        self._deliver(errand, value)

    def repeat(self, errand: Errand, value: int) -> None:
        """An answer comes a second time."""
        if self.present.get(errand.worker) == errand.incarnation:
            self._deliver(errand, value)

    def fail(self, errand: Errand, kind: str) -> None:
        self.errands.remove(errand)
        self.handle(events.BlockFailed(errand.worker, errand.block, kind, f"so it goes ({kind})"))

    def never_answer(self, errand: Errand) -> None:
        self.errands.remove(errand)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.handle(events.Tick())

    # --- the end -------------------------------------------------------------------------------

    def become_benign(self) -> None:
        """From now on three honest workers do all they are asked; everything must end well."""
        for worker in ("honest 0", "honest 1", "honest 2"):
            self.join(worker)
        for _ in range(200):
            while self.errands and self.aborted is None:
                self.now += 0.01
                errand = self.errands[0]
                self.answer(errand, truth(errand.block))
            done = self.scheduler.num_unfinished == 0 and not self.scheduler.ledger.blocks
            if self.aborted is not None or done:
                return
            self.pass_time(60.0 if not self.scheduler.state.resting else 5.0)
        raise AssertionError(f"blocks {sorted(self.scheduler.ledger.blocks)} were never done")

    def check_results(self) -> None:
        """Every block was accepted exactly once, with the numbers of a quiet run."""
        assert self.aborted is None
        not_needed = self.withdrawn | self.optional
        expected = {block: truth(block) for block in self.queued - not_needed}
        assert {b: v for b, v in self.accepted.items() if b not in not_needed} == expected
        assert self.scheduler.ledger.bytes_out == 0
        assert not self.scheduler.ledger.blocks

    def check_replay(self) -> None:
        """The same events, and the state now and then, give the same instructions after JSON."""
        again = Scheduler(self._policy)
        rotations = random.Random(len(self.history))
        for now, event, instructions in self.history:
            passed = events.from_json(json.loads(json.dumps(events.to_json(event))))
            assert passed == event
            if rotations.random() < 0.1:
                state = json.dumps(dataclasses.asdict(again.state), default=sorted)
                again = Scheduler(self._policy, decode(State, json.loads(state)))
            got = again.handle(passed, now)
            assert got == instructions
            encoded = json.loads(json.dumps([events.to_json(one) for one in got]))
            assert [events.from_json(one) for one in encoded] == instructions

    # --- the pool's part -----------------------------------------------------------------------

    def handle(self, event: Event) -> list[Instruction]:
        if self.aborted is not None:
            return []
        instructions = self.scheduler.handle(event, self.now)
        self.history.append((self.now, event, instructions))
        for instruction in instructions:
            self._carry_out(instruction)
        if self.aborted is None:
            scheduler_invariants.check(self.scheduler)
        return instructions

    def _deliver(self, errand: Errand, value: int) -> None:
        worker, block = errand.worker, errand.block
        answers = self._answers.setdefault(block, {})
        agrees = tuple(other for other, said in answers.items() if said == value)
        answers.setdefault(worker, value)
        self.handle(events.BlockFinished(worker, block, tuple(w for w in agrees if w != worker)))

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case events.SendBlock(worker, block):
                assert worker in self.present, f"{worker} is not there"
                assert block not in self.withdrawn, f"block {block} was withdrawn"
                if block in self.optional:
                    assert block not in self.tried, f"optional block {block} is sent twice"
                self.tried.add(block)
                disputed = self.scheduler.ledger.blocks[block].disputed
                assert block not in self.accepted or disputed, f"block {block} has its result"
                self.errands.append(Errand(worker, self.present[worker], block))
            case events.CancelBlock(worker, block):
                for errand in self.errands:
                    if (errand.worker, errand.block) == (worker, block):
                        errand.cancelled = True
            case events.AcceptAnswer(worker, block):
                assert block in self.queued
                assert block not in self.withdrawn
                assert block not in self.accepted, f"block {block} is accepted twice"
                self.accepted[block] = self._answers[block][worker]
            case events.DropWorker(worker, reason, liar):
                assert reason
                if liar:
                    self.banned.add(worker)
                self._forget(worker)
            case events.QuarantineBlock(block, reasons):
                self.quarantined[block] = reasons
            case events.Abort(reason):
                assert reason
                self.aborted = reason

    def _forget(self, worker: str) -> None:
        self.present.pop(worker, None)
        self.errands = [errand for errand in self.errands if errand.worker != worker]


def world_of(*workers: str, **policy) -> World:
    """A world with these workers, whose run waits for others for ever if nothing else is said."""
    world = World(Policy(**{"patience_seconds": math.inf, **policy}))
    for worker in workers:
        world.join(worker)
    return world
