"""Simulated workers around a real scheduler, in virtual time: they answer, lie, die and return.

The world replaces the pool: it keeps and compares answers and carries out instructions. After every
event it checks the scheduler's invariants and records the event for a replay.
"""

import dataclasses
import json
import math
import random
from collections.abc import Collection
from typing import Literal

import scheduler_invariants

from kipper.server.scheduler import events
from kipper.server.scheduler.decoding import decode
from kipper.server.scheduler.events import BlockSpec, Event, Instruction
from kipper.server.scheduler.rules import Policy
from kipper.server.scheduler.scheduler import Scheduler
from kipper.server.scheduler.state import State

BLOCK_BYTES = 100

# What a worker does with all of its blocks; the other words are kinds of failures.
Behaviour = Literal[
    "healthy", "slow", "silent", "dies", "failed", "numerical", "missing", "transport", "cancelled"
]


def truth(block: int) -> int:
    """An honest worker's answer."""
    return 1000 + 7 * block


def spec(block: int, **changes) -> BlockSpec:
    """A block with one of three row ranges and one of two column ranges."""
    pieces = (f"rows {block % 3}", 50), (f"columns {block % 2}", 30)
    whole = BlockSpec(block, f"shape {block % 2}", 0, pieces, BLOCK_BYTES)
    return dataclasses.replace(whole, **changes)


def same_shape(block: int, **changes) -> BlockSpec:
    """A block of the shape that `World.warm_up` has times for."""
    return spec(block, shape="shape 0", **changes)


@dataclasses.dataclass(eq=False)
class Errand:
    """A block that was sent to a worker and not answered.

    Attributes:
        incarnation: of the worker, to recognise late answers of a dead one.
        cancelled: whether the worker was told not to begin it.
    """

    worker: str
    incarnation: int
    block: int
    cancelled: bool = False


class World:
    """A coordinator and its workers.

    Attributes:
        present: the incarnation of each present worker.
        errands: blocks that are out.
        answered: errands that were answered; the answer may come a second time.
        queued, withdrawn, optional: blocks.
        tried: blocks that were sent to any worker.
        accepted: the accepted answer to each block.
        banned: liars.
        aside: until when workers that were set aside may not return.
        aborted: the reason, if the run was aborted.
        history: each event with its time and instructions.
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
        self.aside: dict[str, float] = {}
        self.quarantined: dict[int, tuple[str, ...]] = {}
        self.aborted: str | None = None
        self.history: list[tuple[float, Event, list[Instruction]]] = []
        self._policy = policy
        self._answers: dict[int, dict[str, int]] = {}
        self._incarnations = 0

    # --- what a test asks ----------------------------------------------------------------------

    @property
    def sent(self) -> list[tuple[str, int]]:
        """Workers and the blocks they have, the oldest first."""
        return [(errand.worker, errand.block) for errand in self.errands]

    def errand(self, worker: str, block: int) -> Errand:
        return next(e for e in self.errands if (e.worker, e.block) == (worker, block))

    def of(self, kind: type) -> list[Instruction]:
        """All instructions of a class so far."""
        return [one for _, _, then in self.history for one in then if isinstance(one, kind)]

    def warm_up(self, *workers: str, seconds: float = 1.0, shape: str = "shape 0") -> None:
        """Each worker computes some blocks of the shape, each in this time."""
        for _ in range(8):
            for worker in workers:
                self.note_time(worker, seconds, shape)

    def prove(self, *workers: str) -> None:
        """Each worker has computed a block like those of `spec`."""
        for worker in workers:
            self.scheduler.health.answered(worker, "shape")

    def note_time(self, worker: str, seconds: float, shape: str = "shape 0") -> None:
        """Records the time of a block that the worker computed."""
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
        """The worker joins; if it was present, its blocks are lost."""
        if worker in self.banned or self.now < self.aside.get(worker, 0.0):
            return
        self._forget(worker)
        self._incarnations += 1
        self.present[worker] = self._incarnations
        self.handle(events.WorkerJoined(worker))

    def leave(self, worker: str) -> None:
        self._forget(worker)
        self.handle(events.WorkerLeft(worker, "it died"))

    def do(self, worker: str, block: int, seconds: float = 1.0, value: int | None = None) -> None:
        """The worker answers after some time; correctly, unless a value is given."""
        self.now += seconds
        self.answer(self.errand(worker, block), truth(block) if value is None else value)

    def do_all(self) -> None:
        """Workers answer all their blocks, one block per second."""
        while self.errands and self.aborted is None:
            self.do(*self.sent[0])

    def drain(self, worker: str) -> None:
        self.handle(events.WorkerDraining(worker))

    def answer(self, errand: Errand, value: int) -> None:
        self.errands.remove(errand)
        self.answered.append((errand, value))
        self._deliver(errand, value)

    def repeat(self, errand: Errand, value: int) -> None:
        """An answer arrives a second time."""
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

    def live(
        self, behaviours: dict[str, Behaviour], draws: random.Random, poison: Collection[int] = ()
    ) -> int:
        """Workers behave each in its way until the run ends; returns the number of events.

        Those that die or are set aside come again. Blocks of `poison` fail on everybody.
        """
        for steps in range(20_000):
            if self.aborted is not None or not self.scheduler.ledger.blocks:
                return steps
            for worker in behaviours.keys() - self.present.keys():
                self.join(worker)
            busy = [errand for errand in self.errands if behaviours[errand.worker] != "silent"]
            if not busy or draws.random() < 0.1:
                self.pass_time(draws.choice([0.1, 5.0]))
                continue
            errand = draws.choice(busy)
            self.now += draws.choice([0.0, 0.1])
            behaviour = behaviours[errand.worker]
            if errand.block in poison and behaviour == "healthy":
                self.fail(errand, events.NUMERICAL)
            elif behaviour in ("healthy", "slow"):
                self.now += 20.0 if behaviour == "slow" else 0.0
                self.answer(errand, truth(errand.block))
            elif behaviour == "dies":
                self.leave(errand.worker)
            else:
                self.fail(errand, behaviour)
        raise AssertionError(f"blocks {sorted(self.scheduler.ledger.blocks)} were never done")

    # --- the end -------------------------------------------------------------------------------

    def become_benign(self) -> None:
        """Three honest workers answer everything from now on; all blocks must finish."""
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
        """Every block was accepted exactly once, with the correct answer."""
        assert self.aborted is None
        not_needed = self.withdrawn | self.optional
        expected = {block: truth(block) for block in self.queued - not_needed}
        assert {b: v for b, v in self.accepted.items() if b not in not_needed} == expected
        assert self.scheduler.ledger.bytes_out == 0
        assert not self.scheduler.ledger.blocks

    def check_replay(self) -> None:
        """Events and states that have passed through JSON give the same instructions."""
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
                needed = self.scheduler.ledger.blocks[block].needs_answer
                assert block not in self.accepted or needed, f"block {block} has its result"
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
            case events.SetAsideWorker(worker, reason, seconds):
                assert reason
                self.aside[worker] = self.now + seconds
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
    """A world with these workers; by default its run waits for workers forever."""
    world = World(Policy(**{"patience_seconds": math.inf, **policy}))
    for worker in workers:
        world.join(worker)
    return world
