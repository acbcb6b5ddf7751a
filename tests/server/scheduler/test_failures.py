"""Lost messages, failures, and blocks that fail on every worker: rule 6."""

import pytest
from simulated_world import same_shape, spec, truth, world_of

from kipper.server.scheduler import events, rules
from kipper.server.scheduler.events import DropWorker, ForgetRows, QuarantineBlock

BLAMED = [events.NUMERICAL, events.FAILED]


def test_lost_blocks_are_sent_again_after_growing_pauses() -> None:
    world = world_of("a")
    world.queue([spec(1)])
    for pause in (0.1, 0.2, 0.4, 0.8):
        world.fail(world.errand("a", 1), events.TRANSPORT)
        world.pass_time(0.9 * pause)
        assert world.sent == []
        world.pass_time(0.2 * pause)
        assert world.sent == [("a", 1)]
    world.do("a", 1)
    assert world.accepted == {1: truth(1)}
    assert world.scheduler.counters.lost == 4


def test_a_worker_rests_after_a_loss_and_its_block_goes_to_another() -> None:
    world = world_of("a", "b")
    world.queue([spec(1)])
    world.fail(world.errand("a", 1), events.TRANSPORT)
    world.queue([spec(2), spec(3), spec(4)])
    assert {worker for worker, _ in world.sent} == {"b"}
    world.pass_time(1.0)
    assert "a" in {worker for worker, _ in world.sent}


def test_lost_blocks_go_to_another_worker_at_once() -> None:
    world = world_of("a", "b")
    world.queue([spec(1)])
    for worker in ("a", "b"):
        world.fail(world.errand(worker, 1), events.TRANSPORT)
    assert world.sent == []  # both rest
    world.pass_time(0.15)
    (first,) = world.sent
    world.fail(world.errand(*first), events.TRANSPORT)
    (second,) = world.sent
    assert second == ({"a": "b", "b": "a"}[first[0]], 1)


@pytest.mark.parametrize("answers_between", [False, True])
def test_a_worker_of_which_many_in_a_row_were_lost_is_dropped(answers_between: bool) -> None:
    world = world_of("a")
    world.queue([spec(block) for block in range(20)])
    for lost in range(rules.LOST_IN_A_ROW):
        assert "a" in world.present
        world.fail(world.errands[0], events.TRANSPORT)
        world.pass_time(6.0)
        if answers_between and lost == 2:
            world.do(*world.sent[0])
    assert ("a" in world.present) == answers_between
    if not answers_between:
        (dropped,) = world.of(DropWorker)
        assert "6 messages in a row were lost" in dropped.reason
        assert not dropped.liar


def test_blocks_lost_together_count_once_against_the_worker() -> None:
    world = world_of("a")
    world.queue([spec(block) for block in range(20)])
    for _ in range(rules.LOST_IN_A_ROW - 1):
        assert len(world.errands) == 2
        for errand in list(world.errands):
            world.fail(errand, events.TRANSPORT)
        world.pass_time(6.0)
    assert "a" in world.present
    assert world.scheduler.counters.lost == 10


def test_losses_do_not_count_as_failures_of_the_block() -> None:
    world = world_of("a", "b")
    world.queue([spec(1)])
    for _ in range(8):
        world.fail(world.errands[0], events.TRANSPORT)
        world.pass_time(6.0)
        if world.sent == []:
            world.pass_time(6.0)
        world.queue([spec(len(world.queued) + 1)])
        for errand in [e for e in world.errands if e.block != 1]:
            world.answer(errand, truth(errand.block))
    world.fail(next(e for e in world.errands if e.block == 1), events.FAILED)
    assert world.aborted is None


def test_a_block_that_gets_lost_again_and_again_is_quarantined() -> None:
    world = world_of("a")
    world.queue([spec(1), spec(2)])
    for _ in range(rules.MAX_LOSSES):
        world.fail(world.errand("a", 1), events.TRANSPORT)
        world.pass_time(6.0)
        for worker, block in world.sent:
            if block != 1:
                world.do(worker, block)
                world.queue([spec(len(world.queued) + 1)])
    assert set(world.quarantined) == {1}
    assert "failed wherever it was tried" in world.aborted


@pytest.mark.parametrize("kind", BLAMED)
def test_a_block_that_fails_on_so_many_workers_is_quarantined(kind: str) -> None:
    world = world_of("a", "b", "c", "d")
    world.prove("a", "b", "c", "d")
    world.queue([spec(1)])
    for failed in range(rules.FAILED_WORKERS):
        assert world.aborted is None, failed
        world.fail(world.errands[0], kind)
        world.pass_time(6.0)
    (quarantined,) = world.of(QuarantineBlock)
    assert quarantined.block == 1
    assert len(quarantined.reasons) == 3
    assert quarantined.reasons[0] == f"a: so it goes ({kind})"
    assert "so it goes" in world.aborted


def test_a_block_that_failed_goes_to_another_worker_if_there_is_one() -> None:
    world = world_of("a", "b")
    world.queue([spec(1)])
    world.fail(world.errand("a", 1), events.FAILED)
    world.queue([spec(2)])
    world.do("b", 2, seconds=0.01)  # now a has been idle for longer
    world.pass_time(6.0)
    assert world.sent == [("b", 1)]
    world.fail(world.errand("b", 1), events.FAILED)
    world.pass_time(6.0)
    assert world.sent == [("a", 1)]  # where else


def test_a_block_is_tried_so_often_on_the_only_worker() -> None:
    world = world_of("a")
    world.queue([spec(1)])
    for _ in range(2):
        world.fail(world.errand("a", 1), events.NUMERICAL)
        assert world.sent == []  # for a moment
        world.pass_time(6.0)
    assert world.aborted is None
    world.fail(world.errand("a", 1), events.NUMERICAL)
    assert set(world.quarantined) == {1}


def test_a_block_whose_workers_die_is_quarantined() -> None:
    world = world_of("a", "b", "c", "d")
    world.prove("a", "b", "c", "d")
    world.queue([spec(1)])
    for _ in range(3):
        assert world.aborted is None
        world.leave(world.sent[0][0])
        world.pass_time(6.0)
    assert set(world.quarantined) == {1}


def test_a_block_on_which_workers_fall_silent_is_quarantined() -> None:
    world = world_of("a", "b", "c", "d")
    world.prove("a", "b", "c", "d")
    world.queue([spec(1)])
    for _ in range(3):
        assert world.aborted is None
        world.pass_time(901.0)
        world.pass_time(6.0)
    assert set(world.quarantined) == {1}


def test_a_failure_after_another_workers_answer_does_no_harm() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.queue([same_shape(1)])
    world.pass_time(5.0)
    assert world.sent == [("a", 1), ("b", 1)]
    world.do("b", 1)
    world.fail(world.errand("a", 1), events.FAILED)
    assert world.accepted == {1: truth(1)}
    assert world.scheduler.ledger.blocks == {}


def test_a_worker_without_its_rows_is_sent_them_again_and_nobody_is_blamed() -> None:
    world = world_of("a")
    world.queue([spec(1)])
    world.fail(world.errand("a", 1), events.MISSING)
    assert world.of(ForgetRows) == [ForgetRows("a")]
    assert world.scheduler.ledger.workers["a"].held == {}
    assert world.scheduler.ledger.holders == {}
    world.queue([spec(2)])
    assert world.sent == [("a", 2)]  # the worker does not rest
    assert world.scheduler.ledger.blocks[1].failed == {}
    world.pass_time(0.2)
    world.do("a", 1)
