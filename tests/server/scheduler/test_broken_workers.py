"""Broken workers among healthy ones cost neither the run nor much time: rule 6."""

import random
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_world import Behaviour, World, spec, truth, world_of

from kipper.server.scheduler import events, rules
from kipper.server.scheduler.events import DropWorker, QuarantineBlock, SetAsideWorker

BROKEN = sorted(set(typing.get_args(Behaviour)) - {"healthy"})
FAILING = [events.FAILED, events.NUMERICAL, events.MISSING, events.CANCELLED]


def failed_by(world: World, worker: str, kind: str, times: int) -> None:
    """The worker fails so many blocks in a row; the others answer theirs meanwhile."""
    for _ in range(times):
        while worker not in [errand.worker for errand in world.errands]:
            others = [errand for errand in world.errands if errand.worker != worker]
            for errand in others:
                world.answer(errand, truth(errand.block))
            world.pass_time(6.0)
        world.fail(next(e for e in world.errands if e.worker == worker), kind)


@pytest.mark.parametrize("kind", FAILING)
def test_a_worker_that_fails_all_its_blocks_is_set_aside_with_its_message(kind: str) -> None:
    world = world_of("broken", "b")
    world.queue([spec(block) for block in range(40)])
    failed_by(world, "broken", kind, rules.FAILED_IN_A_ROW)
    (aside,) = world.of(SetAsideWorker)
    assert (aside.worker, aside.seconds) == ("broken", rules.FIRST_SECONDS_ASIDE)
    assert f"it failed {rules.FAILED_IN_A_ROW} blocks in a row, the last: " in aside.reason
    assert f"so it goes ({kind})" in aside.reason
    assert "broken" not in world.present
    for _ in range(30):
        world.do_all()
        world.pass_time(6.0)
    world.check_results()
    assert len(world.tried) == 40


def test_a_worker_that_fails_now_and_then_stays() -> None:
    world = world_of("a", "b")
    world.queue([spec(block) for block in range(100)])
    draws = random.Random(0)
    for _ in range(2000):
        if not world.errands:
            world.pass_time(6.0)
            continue
        errand = draws.choice(world.errands)
        if errand.worker == "a" and draws.random() < 0.2:
            world.fail(errand, events.FAILED)
        else:
            world.answer(errand, truth(errand.block))
    world.check_results()
    assert set(world.present) == {"a", "b"}


def test_one_that_returns_has_one_attempt_and_then_a_longer_pause() -> None:
    world = world_of("broken", "b")
    world.queue([spec(block) for block in range(400)])
    failed_by(world, "broken", events.FAILED, rules.FAILED_IN_A_ROW)
    pauses = []
    for _ in range(9):
        pauses.append(world.of(SetAsideWorker)[-1].seconds)
        world.join("broken")
        assert "broken" not in world.present  # too early
        world.now += pauses[-1]
        world.join("broken")
        failed_by(world, "broken", events.FAILED, 1)
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_one_that_returns_healed_stays() -> None:
    world = world_of("broken", "b")
    world.queue([spec(block) for block in range(60)])
    failed_by(world, "broken", events.FAILED, rules.FAILED_IN_A_ROW)
    world.now += 10.0
    world.join("broken")
    world.do("broken", next(block for worker, block in world.sent if worker == "broken"))
    failed_by(world, "broken", events.FAILED, rules.FAILED_IN_A_ROW - 1)
    assert "broken" in world.present


def test_deaths_count_and_outlive_the_worker() -> None:
    world = world_of("fragile", "b")
    world.queue([spec(block) for block in range(60)])
    for _ in range(rules.FAILED_IN_A_ROW):
        assert world.of(SetAsideWorker) == []
        for errand in [errand for errand in world.errands if errand.worker == "b"]:
            world.answer(errand, truth(errand.block))
        world.pass_time(6.0)
        world.leave("fragile")
        world.join("fragile")
    (aside,) = world.of(SetAsideWorker)
    assert "the last: it died" in aside.reason
    assert "fragile" not in world.present


def test_an_answer_of_another_worker_speaks_against_those_that_fail_the_block() -> None:
    world = world_of("a", "b", verify_fraction=1, patience_seconds=10)
    world.queue([spec(1)])
    world.do("a", 1)
    for _ in range(rules.FAILED_IN_A_ROW):
        world.fail(world.errand("b", 1), events.NUMERICAL)
        world.pass_time(6.0)
    assert [aside.worker for aside in world.of(SetAsideWorker)] == ["b"]
    world.pass_time(70.0)
    assert "worker a is the only one left" in world.aborted
    assert not any(abort.numerical for abort in world.of(events.Abort))


def test_failures_of_broken_workers_are_no_evidence_against_a_block() -> None:
    world = world_of("b1", "b2", "b3", "healthy")
    world.queue([spec(block) for block in range(4)])
    broken = [errand for errand in world.errands if errand.worker != "healthy"]
    for errand in broken:
        world.fail(errand, events.NUMERICAL)
    world.do("healthy", next(block for worker, block in world.sent if worker == "healthy"))
    for _ in range(40):
        world.pass_time(6.0)
        for errand in list(world.errands):
            if errand.worker == "healthy":
                world.answer(errand, truth(errand.block))
            elif errand in world.errands:
                world.fail(errand, events.NUMERICAL)
    world.check_results()


@pytest.mark.parametrize("kind", FAILING)
def test_a_run_of_broken_workers_alone_ends_and_names_what_each_said(kind: str) -> None:
    world = world_of("a", "b", "c", patience_seconds=10.0)
    world.queue([spec(block) for block in range(9)])
    for _ in range(100):
        for errand in list(world.errands):
            if world.aborted is None:
                world.fail(errand, kind)
        if world.aborted is None:
            world.pass_time(6.0)
    for worker in "abc":
        assert f"{worker}: " in world.aborted
    assert f"so it goes ({kind})" in world.aborted
    assert world.of(events.Abort)[-1].numerical == (kind == events.NUMERICAL)
    assert world.of(DropWorker) == []


def test_where_others_may_come_the_first_broken_worker_is_borne_for_a_minute() -> None:
    world = world_of("broken")
    world.queue([spec(block) for block in range(9)])
    start = world.now
    while world.aborted is None and world.now < start + 50:
        for errand in list(world.errands):
            world.fail(errand, events.FAILED)
        world.pass_time(1.0)
    assert world.aborted is None
    world.join("late")
    for _ in range(40):
        for errand in list(world.errands):
            if errand in world.errands and errand.worker == "broken":
                world.fail(errand, events.FAILED)
            elif errand in world.errands:
                world.answer(errand, truth(errand.block))
        world.pass_time(1.0)
    world.check_results()


@settings(max_examples=100, deadline=None)
@given(
    broken=st.lists(st.sampled_from(BROKEN), max_size=8),
    healthy=st.integers(2, 4),
    fraction=st.sampled_from([0.0, 0.3, 1.0]),
    number=st.integers(1, 60),
    first=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_with_healthy_workers_every_run_finishes(
    broken: list[Behaviour],
    healthy: int,
    fraction: float,
    number: int,
    first: bool,
    seed: int,
) -> None:
    """Whatever the others do, and whoever comes first."""
    fine = {f"h{i}": "healthy" for i in range(healthy if fraction else healthy - 1)}
    others = {f"b{i}": behaviour for i, behaviour in enumerate(broken)}
    behaviours = {**others, **fine} if first else {**fine, **others}
    world = world_of(*behaviours, verify_fraction=fraction, seed=seed)
    world.queue([spec(block, priority=block % 2) for block in range(number)])
    world.live(behaviours, random.Random(seed))
    assert world.aborted is None
    world.check_results()


@settings(max_examples=100, deadline=None)
@given(
    broken=st.lists(st.sampled_from(BROKEN), max_size=5),
    healthy=st.integers(1, 5),
    fraction=st.sampled_from([0.0, 1.0]),
    number=st.integers(1, 40),
    seed=st.integers(0, 10**6),
)
def test_a_block_that_fails_everywhere_ends_every_run(
    broken: list[Behaviour], healthy: int, fraction: float, number: int, seed: int
) -> None:
    behaviours: dict[str, Behaviour] = {f"h{i}": "healthy" for i in range(healthy)}
    behaviours |= {f"b{i}": behaviour for i, behaviour in enumerate(broken)}
    if fraction and healthy == 1:
        behaviours["h1"] = "healthy"
    slow = {name for name, behaviour in behaviours.items() if behaviour == "slow"}
    behaviours |= dict.fromkeys(slow, "healthy")  # or it would compute the block
    world = world_of(*behaviours, verify_fraction=fraction, patience_seconds=1e6)
    poison = seed % number
    world.queue([spec(block) for block in range(number)])
    assert world.live(behaviours, random.Random(seed), {poison}) < 10_000
    assert world.aborted is not None
    assert {quarantined.block for quarantined in world.of(QuarantineBlock)} == {poison}
    assert "failed wherever it was tried" in world.aborted or "every worker failed" in world.aborted
    assert all(world.accepted[block] == truth(block) for block in world.accepted)
