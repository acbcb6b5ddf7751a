"""Answers, failures, deadlines and verification: one test or more for each of the rules."""

import math

import pytest
from simulated_world import BLOCK_BYTES, World, spec, truth

from kipper.server.scheduler import events, rules
from kipper.server.scheduler.events import (
    CancelBlock,
    DropWorker,
    ForgetRows,
    QuarantineBlock,
)
from kipper.server.scheduler.rules import Policy

BLAMED = [events.NUMERICAL, events.FAILED]


def world_of(*workers: str, **policy) -> World:
    world = World(Policy(**{"patience_seconds": math.inf, **policy}))
    for worker in workers:
        world.join(worker)
    return world


def same_shape(block: int, **changes):
    return spec(block, shape="shape 0", **changes)


# --- rule 2: how a block ends ---------------------------------------------------------------------


def test_the_first_answer_is_accepted_and_a_second_is_not() -> None:
    world = world_of("a")
    world.queue([spec(1)])
    errand = world.errand("a", 1)
    world.do("a", 1)
    world.repeat(errand, truth(1))
    assert world.accepted == {1: truth(1)}
    assert world.scheduler.num_unfinished == 0


def test_a_withdrawn_block_is_not_sent() -> None:
    world = world_of("a")
    world.queue([spec(1), spec(2), spec(3)])
    world.withdraw([3])
    world.do_all()
    assert set(world.accepted) == {1, 2}


@pytest.mark.parametrize("end", ["answer", "failure", "death"])
def test_a_block_withdrawn_while_it_is_out_is_forgotten_when_it_comes_home(end: str) -> None:
    world = world_of("a", "b")
    world.queue([spec(1)])
    world.withdraw([1])
    assert world.of(CancelBlock) == [CancelBlock("a", 1)]
    assert world.scheduler.num_unfinished == 0
    if end == "answer":
        world.do("a", 1)
    elif end == "failure":
        world.fail(world.errand("a", 1), events.FAILED)
    else:
        world.leave("a")
    assert world.sent == []
    assert world.scheduler.ledger.blocks == {}


def test_a_withdrawn_block_that_waits_behind_another_is_taken_by_nobody() -> None:
    world = world_of("a")
    world.queue([spec(1), spec(2)])
    world.withdraw([2])
    world.join("b")
    assert world.sent == [("a", 1), ("a", 2)]


def test_to_withdraw_what_is_unknown_is_harmless() -> None:
    world = world_of("a")
    world.queue([spec(1)])
    world.do("a", 1)
    world.withdraw([1, 99])
    assert world.accepted == {1: truth(1)}


# --- rule 3: who gets blocks ----------------------------------------------------------------------


def test_a_worker_has_at_most_a_window_of_blocks() -> None:
    world = world_of("a")
    world.queue([spec(block) for block in range(5)])
    assert len(world.sent) == rules.WINDOW == 2
    world.do("a", 0)
    assert len(world.sent) == 2


def test_a_draining_worker_answers_what_it_has_and_gets_no_more() -> None:
    world = world_of("a")
    world.queue([spec(block) for block in range(3)])
    world.drain("a")
    world.do_all()
    assert len(world.accepted) == 2
    world.join("b")
    world.do_all()
    assert set(world.accepted) == {0, 1, 2}


def test_blocks_bound_to_a_draining_worker_are_anybodys() -> None:
    world = world_of("a", "b")
    world.drain("a")
    world.queue([spec(1, prefers="a"), spec(2, prefers="a")])
    assert world.sent == [("b", 1), ("b", 2)]


def test_a_worker_that_comes_again_under_its_name_has_lost_what_it_had() -> None:
    world = world_of("a")
    world.queue([spec(1), spec(2), spec(3)])
    world.scheduler.handle(events.WorkerJoined("a"), world.now)  # without a word of its death
    assert 1 not in world.scheduler.ledger.workers["a"].out  # it rests
    assert world.scheduler.ledger.blocks[1].failed == {"a": "it came again"}


def test_only_the_block_that_a_dead_worker_computed_is_blamed() -> None:
    world = world_of("a")
    world.queue([spec(1), spec(2)])
    world.leave("a")
    failed = {block: entry.failed for block, entry in world.scheduler.ledger.blocks.items()}
    assert failed == {1: {"a": "it died"}, 2: {}}


# --- rule 5: leases -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "deadline"),
    [(None, 900), (1.0, 30), (20.0, 200)],
    ids=["not known yet", "short blocks", "long blocks"],
)
def test_a_block_is_taken_from_a_worker_that_is_silent_beyond_its_deadline(
    seconds: float | None, deadline: float
) -> None:
    world = world_of("a")
    if seconds is not None:
        world.warm_up("a", seconds=seconds)
    world.queue([same_shape(1)])
    world.pass_time(deadline - 1)
    assert world.scheduler.ledger.workers["a"].stalled_since is None
    world.handle(events.Heartbeat("a"))
    world.pass_time(2)
    world.handle(events.Heartbeat("a"))
    assert world.scheduler.ledger.workers["a"].stalled_since is not None
    world.join("b")
    world.pass_time(1)
    assert [sent for sent in world.sent if sent[0] == "b"] == [("b", 1)]


def test_a_slow_worker_has_longer() -> None:
    world = world_of("a", "b")
    world.warm_up("a", seconds=10)
    world.warm_up("a", "b", seconds=10)
    for _ in range(5):
        world.scheduler._times.note("b", "shape 0", 80)
    world.drain("a")
    world.queue([same_shape(1)])
    world.pass_time(500)  # it is passed over for some time
    assert world.sent == [("b", 1)]
    world.pass_time(700)
    assert world.scheduler.ledger.workers["b"].stalled_since is None
    world.pass_time(200)
    assert world.scheduler.ledger.workers["b"].stalled_since is not None


def test_the_time_of_a_block_counts_from_when_its_worker_could_begin_it() -> None:
    world = world_of("a")
    world.warm_up("a")
    world.queue([same_shape(1), same_shape(2)])
    world.do("a", 1, seconds=29)
    world.pass_time(29)
    assert world.scheduler.ledger.workers["a"].stalled_since is None
    world.pass_time(2)
    assert world.scheduler.ledger.workers["a"].stalled_since is not None


def test_what_waited_behind_a_late_block_is_not_blamed() -> None:
    world = world_of("a")
    world.warm_up("a")
    world.queue([same_shape(1), same_shape(2)])
    world.pass_time(31)
    entries = world.scheduler.ledger.blocks
    assert entries[1].failed == {"a": "no answer within 30 s"}
    assert entries[2].failed == {}


def test_a_stalled_worker_gets_nothing_until_it_answers_and_its_late_answer_counts() -> None:
    world = world_of("a")
    world.warm_up("a")
    world.queue([same_shape(1)])
    world.pass_time(31)
    world.queue([same_shape(2)])
    world.pass_time(10)
    assert world.sent == [("a", 1)]
    world.do("a", 1)
    assert world.accepted == {1: truth(1)}
    assert world.sent == [("a", 2)]


def test_a_worker_that_stays_silent_is_dropped() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.queue([same_shape(1)])
    world.pass_time(31)
    world.pass_time(89)
    assert "a" in world.present
    world.pass_time(2)
    assert "a" not in world.present
    (dropped,) = world.of(DropWorker)
    assert (dropped.worker, dropped.liar) == ("a", False)
    assert "beyond a deadline" in dropped.reason


# --- rule 6: failures -----------------------------------------------------------------------------


def test_what_was_lost_is_sent_again_after_pauses_that_grow() -> None:
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


def test_what_was_lost_together_counts_once_against_the_worker() -> None:
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
    for _ in range(rules.MOST_LOSSES):
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
    world.queue([spec(1)])
    for _ in range(3):
        assert world.aborted is None
        world.leave(world.sent[0][0])
        world.pass_time(6.0)
    assert set(world.quarantined) == {1}


def test_a_block_on_which_workers_fall_silent_is_quarantined() -> None:
    world = world_of("a", "b", "c", "d")
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


# --- rule 8: verification -------------------------------------------------------------------------


def test_a_verified_block_needs_two_equal_answers() -> None:
    world = world_of("a", "b", verify_fraction=1)
    world.queue([spec(1)])
    assert world.sent == [("a", 1), ("b", 1)]
    world.do("a", 1)
    assert world.accepted == {}
    world.do("b", 1)
    assert world.accepted == {1: truth(1)}
    assert world.scheduler.counters.verified == 1


def test_one_worker_never_answers_for_two() -> None:
    world = world_of("a", verify_fraction=1)
    world.queue([spec(1)])
    world.do("a", 1)
    world.join("a")
    world.pass_time(30.0)
    assert world.sent == []
    world.join("b")
    world.do("b", 1)
    assert world.accepted == {1: truth(1)}


def test_a_fraction_of_blocks_is_verified_by_the_seed() -> None:
    def chosen(seed: int) -> set[int]:
        world = world_of("a", "b", verify_fraction=0.3, seed=seed)
        world.queue([spec(block) for block in range(400)])
        blocks = world.scheduler.ledger.blocks
        return {block for block, entry in blocks.items() if entry.wanted == 2}

    assert 80 < len(chosen(0)) < 160
    assert chosen(0) == chosen(0) != chosen(1)


@pytest.mark.parametrize("order", ["abc", "bac", "bca"])
def test_a_liar_is_outvoted_by_a_third_worker_and_dropped(order: str) -> None:
    world = world_of(*order, verify_fraction=1)
    world.queue([spec(1)])
    for _ in range(3):
        for worker, block in list(world.sent):
            if block == 1:
                world.do(worker, 1, value=13 if worker == "b" else None)
    assert world.accepted == {1: truth(1)}
    if "b" in order[:2]:
        (dropped,) = world.of(DropWorker)
        assert (dropped.worker, dropped.liar) == ("b", True)
        assert "otherwise than" in dropped.reason
        assert set(world.present) == {"a", "c"}
    assert world.aborted is None


def test_nothing_that_a_liar_said_counts_once_it_is_known() -> None:
    world = world_of("a", "liar", verify_fraction=1)
    world.queue([spec(1), spec(2)])
    world.do("liar", 1, value=13)
    world.do("liar", 2, value=14)
    world.do("a", 1)
    world.join("c")
    world.do("c", 1)
    assert world.banned == {"liar"}
    assert world.scheduler.ledger.blocks[2].groups == []
    world.do_all()
    assert world.accepted == {1: truth(1), 2: truth(2)}


def test_three_answers_that_all_differ_abort_the_run() -> None:
    world = world_of("a", "b", "c", verify_fraction=1)
    world.queue([spec(1)])
    for value, worker in enumerate("abc"):
        world.do(worker, 1, value=value)
    assert "a, b, c computed as many different answers" in world.aborted
    assert world.accepted == {}


def test_a_dispute_that_nobody_can_settle_aborts_the_run() -> None:
    world = world_of("a", "b", verify_fraction=1)
    world.queue([spec(1)])
    world.do("a", 1)
    world.do("b", 1, value=13)
    world.pass_time(50.0)
    assert world.aborted is None
    world.pass_time(20.0)
    assert "a and b computed a block differently, and there is no third" in world.aborted


def copied(*workers: str) -> World:
    """Block 1 runs late on the first of the workers, and a copy of it on the second."""
    world = world_of(*workers)
    world.warm_up(*workers)
    world.queue([same_shape(1)])
    world.pass_time(5.0)
    assert world.sent == [(workers[0], 1), (workers[1], 1)]
    return world


def test_answers_of_copies_are_compared_and_a_used_lie_aborts_the_run() -> None:
    world = copied("liar", "b", "c")
    world.do("liar", 1, value=13)
    assert world.accepted == {1: 13}
    world.do("b", 1)
    world.do("c", 1)  # decides
    assert "liar computed wrong numbers that had been used" in world.aborted
    assert world.banned == {"liar"}


def test_a_lie_that_came_too_late_to_be_used_costs_its_worker_alone() -> None:
    world = copied("liar", "b", "c")
    world.do("b", 1)
    world.do("liar", 1, value=13)
    world.do("c", 1)
    assert world.aborted is None
    assert world.accepted == {1: truth(1)}
    assert world.banned == {"liar"}


def test_a_dispute_about_used_numbers_that_nobody_can_settle_aborts_the_run() -> None:
    world = copied("a", "b")
    world.do("b", 1)
    world.do("a", 1, value=13)
    world.pass_time(70.0)
    assert "there is no third" in world.aborted


def test_a_dispute_about_used_numbers_is_not_withdrawn_in_silence() -> None:
    world = copied("a", "b")
    world.do("b", 1)
    world.do("a", 1, value=13)
    world.withdraw([1])
    assert "there is no third" in world.aborted


def test_a_sample_is_given_up_where_no_second_worker_comes() -> None:
    world = world_of("a", "b", verify_fraction=0.999)
    world.queue([spec(1)])
    world.do("a", 1)
    world.leave("b")
    world.pass_time(30.0)
    assert world.accepted == {}
    world.pass_time(40.0)
    assert world.accepted == {1: truth(1)}
    assert world.scheduler.counters.unverified == 1


def test_where_everything_is_to_be_verified_one_workers_word_is_never_taken() -> None:
    world = world_of("a", verify_fraction=1, patience_seconds=math.inf)
    world.queue([spec(1)])
    world.do("a", 1)
    world.pass_time(5000.0)
    assert world.accepted == {}
    assert world.aborted is None
    world = world_of("a", verify_fraction=1, patience_seconds=10)
    world.queue([spec(1)])
    world.do("a", 1)
    world.pass_time(70.0)
    assert world.accepted == {}
    assert "only worker a is there" in world.aborted


def test_the_second_of_two_workers_may_try_again_what_failed_on_it() -> None:
    world = world_of("a", "b", verify_fraction=1)
    world.queue([spec(1)])
    world.do("a", 1)
    world.fail(world.errand("b", 1), events.FAILED)
    world.pass_time(1.0)
    world.do("b", 1)
    assert world.accepted == {1: truth(1)}


def test_the_wait_for_a_verifier_is_not_cut_short_by_backpressure() -> None:
    world = world_of("a", "b", verify_fraction=0.999, max_bytes_out=BLOCK_BYTES)
    world.queue([spec(1, priority=1)])
    world.queue([spec(2)])
    world.do("a", 1)
    assert [block for _, block in world.sent] == [2]
    world.pass_time(70.0)
    assert 1 not in world.accepted


# --- rule 9: backpressure -------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "number"), [(1, 1), (250, 2), (399, 3), (10_000, 8)])
def test_blocks_out_are_worth_at_most_so_many_bytes_or_are_one(most: int, number: int) -> None:
    world = world_of("a", "b", "c", "d", max_bytes_out=most)
    world.queue([spec(block) for block in range(20)])
    assert len(world.sent) == number
    world.do(*world.sent[0])
    assert len(world.sent) == number
    world.do_all()
    assert len(world.accepted) == 20


# --- rule 10: no workers --------------------------------------------------------------------------


def test_without_workers_the_run_waits_and_is_then_aborted() -> None:
    world = world_of("a", patience_seconds=30)
    world.queue([spec(1)])
    world.leave("a")
    world.pass_time(29.0)
    assert world.aborted is None
    world.pass_time(2.0)
    assert world.aborted == "no worker is left; the last was lost, a: it died"


def test_a_worker_that_comes_in_time_ends_the_wait() -> None:
    world = world_of("a", patience_seconds=30)
    world.queue([spec(1)])
    world.leave("a")
    world.pass_time(20.0)
    world.join("b")
    world.pass_time(20.0)
    assert world.aborted is None
    world.do("b", 1)
    world.leave("b")
    world.pass_time(100.0)  # nothing is asked for
    assert world.aborted is None


def test_the_only_worker_may_come_again_however_impatient_the_run_is() -> None:
    world = world_of("a", patience_seconds=0)
    world.queue([spec(1)])
    world.handle(events.WorkerJoined("a"))
    assert world.aborted is None


# --- counting -------------------------------------------------------------------------------------


def test_what_happened_is_counted() -> None:
    world = world_of("a", "b")
    world.queue([spec(1)])
    world.do("a", 1, seconds=4.0)
    world.pass_time(6.0)
    world.leave("b")
    counters = world.scheduler.counters
    assert (counters.sent, counters.accepted, counters.left) == (1, 1, 1)
    assert (counters.worker_seconds, counters.busy_seconds) == (20.0, 4.0)


def test_a_tick_is_asked_for_when_something_may_have_changed() -> None:
    world = world_of("a")
    assert world.scheduler.wake_in(world.now) == 1.0
    world.queue([spec(1)])
    world.fail(world.errand("a", 1), events.FAILED)
    assert 0 < world.scheduler.wake_in(world.now) <= 0.1
