"""The scheduler under random events: nothing is lost, nothing counts twice, no lie is believed."""

import math
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from simulated_world import BLOCK_BYTES, World, spec, truth

from kipper.server.scheduler import events, rules
from kipper.server.scheduler.rules import Policy

WORKERS = ["a", "b", "c", "liar"]
FEW, STEPS = 150, 40

pick = st.randoms(use_true_random=False)
running = precondition(lambda self: self.world.aborted is None)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails is tried for ever, so that no run is aborted."""
    for name in (
        "FAILED_WORKERS",
        "FAILED_IN_A_ROW",
        "MAX_LOSSES",
        "VERIFIER_PATIENCE_SECONDS",
    ):
        monkeypatch.setattr(rules, name, 10**6)


class Interleaving(RuleBasedStateMachine):
    """Anything may happen at any time; at the end the world becomes benign."""

    patience = math.inf
    may_abort = False

    @initialize(
        fraction=st.sampled_from([0.0, 0.5, 1.0]),
        num_workers=st.integers(0, 4),
        max_blocks_out=st.sampled_from([1, 3, 1000]),
        seed=st.integers(0, 5),
    )
    def start(self, fraction: float, num_workers: int, max_blocks_out: int, seed: int) -> None:
        self.world = World(Policy(max_blocks_out * BLOCK_BYTES, fraction, seed, self.patience))
        # Where not everything is verified, a lie may be accepted.
        self.liar_lies = fraction == 1
        self.lies_at_random = seed % 2 == 0
        self.last_block = 0
        for worker in WORKERS[:num_workers]:
            self.world.join(worker)

    def value(self, errand, random: random.Random) -> int:
        # An optional block is answered without a number.
        tells_numbers = errand.block not in self.world.optional
        if errand.worker != "liar" or not self.liar_lies or not tells_numbers:
            return truth(errand.block)
        return truth(errand.block) + (random.randrange(1, 9) if self.lies_at_random else 1)

    @running
    @rule(count=st.integers(1, 8), random=pick)
    def queue(self, count: int, random: random.Random) -> None:
        blocks = range(self.last_block, self.last_block + count)
        self.last_block += count
        preferences = [None, None, *WORKERS]
        self.world.queue(
            [
                spec(block, priority=2, optional=True)
                if random.random() < 0.2
                else spec(block, priority=random.randrange(2), prefers=random.choice(preferences))
                for block in blocks
            ]
        )

    @precondition(lambda self: self.world.aborted is None and self.world.queued)
    @rule(random=pick)
    def withdraw(self, random: random.Random) -> None:
        known = sorted(self.world.queued)
        self.world.withdraw(random.sample(known, min(2, len(known))))

    @running
    @rule(worker=st.sampled_from(WORKERS))
    def join(self, worker: str) -> None:
        self.world.join(worker)

    @precondition(lambda self: self.world.aborted is None and self.world.present)
    @rule(random=pick, die=st.booleans())
    def go(self, random: random.Random, die: bool) -> None:
        worker = random.choice(sorted(self.world.present))
        if die:
            self.world.leave(worker)
        else:
            self.world.drain(worker)

    @precondition(lambda self: self.world.aborted is None and self.world.errands)
    @rule(random=pick, count=st.integers(1, 4))
    def answer(self, random: random.Random, count: int) -> None:
        for _ in range(count):
            if self.world.errands and self.world.aborted is None:
                errand = random.choice(self.world.errands)
                self.world.now += random.choice([0.0, 0.01, 3.0])
                self.world.answer(errand, self.value(errand, random))

    @precondition(lambda self: self.world.aborted is None and self.world.answered)
    @rule(random=pick)
    def answer_again(self, random: random.Random) -> None:
        self.world.repeat(*random.choice(self.world.answered))

    @precondition(lambda self: self.world.aborted is None and self.world.errands)
    @rule(
        random=pick,
        kind=st.sampled_from(
            [events.TRANSPORT, events.MISSING, events.NUMERICAL, events.FAILED, events.CANCELLED]
        ),
    )
    def fail(self, random: random.Random, kind: str) -> None:
        errands = [e for e in self.world.errands if e.cancelled or kind != events.CANCELLED]
        if errands:
            self.world.fail(random.choice(errands), kind)

    @precondition(lambda self: self.world.aborted is None and self.world.errands)
    @rule(random=pick)
    def never_answer(self, random: random.Random) -> None:
        self.world.never_answer(random.choice(self.world.errands))

    @running
    @rule(seconds=st.sampled_from([0.0, 0.03, 1.0, 40.0, 1000.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def rest(self) -> None:
        """After an abort nothing happens any more."""

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.become_benign()
        if self.world.aborted is None:
            self.world.check_results()
        else:
            assert self.may_abort, self.world.aborted
            assert {b: truth(b) for b in self.world.accepted} == self.world.accepted
        self.world.check_replay()


class Impatient(Interleaving):
    """The rules' own numbers: the run may be aborted, and must not be wrong before."""

    patience = 500.0
    may_abort = True


def run(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=FEW, stateful_step_count=STEPS, deadline=None),
    )


@pytest.mark.thorough
@pytest.mark.usefixtures("patient")
def test_any_interleaving_gives_the_numbers_of_a_quiet_run() -> None:
    run(Interleaving)


def test_any_interleaving_ends_right_or_is_aborted() -> None:
    run(Impatient)
