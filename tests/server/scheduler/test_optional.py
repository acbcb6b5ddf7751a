"""Blocks that bring a worker the rows that it may need next: rule 11."""

import pytest
from simulated_world import same_shape, spec, world_of

from kipper.server.scheduler import events, rules


def optional(block: int):
    return spec(block, shape="rows", priority=2, optional=True)


def test_they_go_to_idle_workers_once_nothing_else_waits() -> None:
    world = world_of("a", "b")
    world.queue([optional(1), spec(2), spec(3), spec(4)])
    assert {block for _, block in world.sent} == {2, 3, 4}
    world.do("a", 2)
    world.do("a", 4)
    assert ("a", 1) in world.sent


def test_what_comes_meanwhile_is_sent_behind_one() -> None:
    world = world_of("a")
    world.queue([optional(1)])
    world.queue([spec(2)])
    assert world.sent == [("a", 1), ("a", 2)]


@pytest.mark.parametrize(
    "kind", [events.TRANSPORT, events.MISSING, events.NUMERICAL, events.FAILED]
)
def test_one_that_fails_is_not_tried_again_and_nobody_is_blamed(kind: str) -> None:
    world = world_of("a", "b")
    world.queue([optional(1)])
    worker = world.sent[0][0]
    world.fail(world.errand(worker, 1), kind)
    world.pass_time(60.0)
    assert world.sent == []
    assert world.scheduler.counters.failed == 0
    assert not world.scheduler.ledger.blocks
    assert world.aborted is None


def test_one_whose_worker_dies_is_given_up() -> None:
    world = world_of("a", "b")
    world.queue([optional(1)])
    world.leave(world.sent[0][0])
    assert world.sent == []
    assert not world.scheduler.ledger.blocks


def test_one_whose_worker_is_silent_is_given_up_and_the_worker_stalls() -> None:
    world = world_of("a", "b")
    world.queue([optional(1)])
    silent = world.sent[0][0]
    world.pass_time(rules.FIRST_DEADLINE_SECONDS + 1)
    world.queue([spec(2)])
    assert silent not in [worker for worker, block in world.sent if block == 2]


def test_none_is_verified() -> None:
    world = world_of("a", "b", verify_fraction=1.0)
    world.queue([optional(1)])
    assert len(world.sent) == 1
    world.do(*world.sent[0])
    assert not world.scheduler.ledger.blocks


def test_none_is_copied_however_late() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.queue([same_shape(1, priority=2, optional=True)])
    for _ in range(10):
        world.pass_time(1.0)
    assert len(world.sent) == 1
    assert world.scheduler.counters.copies == 0


def test_how_long_they_take_says_nothing_of_a_worker() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    for block in range(8):
        world.queue([optional(block)])
        worker, _ = world.sent[0]
        world.do(worker, block, seconds=50.0 if worker == "a" else 1.0)
    assert world.scheduler.ledger.workers["a"].pace.slowness == 1.0
    assert "rows" not in world.scheduler.state.times.expected
