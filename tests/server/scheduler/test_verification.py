"""Answers compared, liars dropped, and what a lone worker says: rule 8."""

import math

import pytest
from simulated_world import BLOCK_BYTES, Errand, World, same_shape, spec, truth, world_of

from kipper.server.scheduler import events
from kipper.server.scheduler.events import DropWorker


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
        assert "differs from" in dropped.reason
        assert set(world.present) == {"a", "c"}
    assert world.aborted is None


def test_answers_of_a_known_liar_do_not_count() -> None:
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
    assert "a, b, c gave 3 different answers" in world.aborted
    assert world.accepted == {}


def test_a_dispute_that_nobody_can_settle_aborts_the_run() -> None:
    world = world_of("a", "b", verify_fraction=1)
    world.queue([spec(1)])
    world.do("a", 1)
    world.do("b", 1, value=13)
    world.pass_time(50.0)
    assert world.aborted is None
    world.pass_time(20.0)
    assert "a and b gave different answers to a block, and no third can decide" in world.aborted


def copied(*workers: str) -> World:
    """Block 1 runs late on the first of the workers, and a copy of it on the second."""
    world = world_of(*workers)
    world.warm_up(*workers)
    world.queue([same_shape(1)])
    world.pass_time(5.0)
    assert world.sent == [(workers[0], 1), (workers[1], 1)]
    return world


def test_answers_of_copies_are_compared_and_a_used_lie_costs_its_worker() -> None:
    world = copied("liar", "b", "c")
    world.do("liar", 1, value=13)
    assert world.accepted == {1: 13}
    world.do("b", 1)
    assert world.scheduler.disputed == {1: [["liar"], ["b"]]}
    world.do("c", 1)  # decides
    assert world.aborted is None  # the run goes back
    assert world.banned == {"liar"}
    assert world.scheduler.disputed == {}


def test_a_dispute_ends_when_one_side_turns_out_to_be_a_liar() -> None:
    world = world_of("a", "liar", verify_fraction=1)
    world.queue([spec(1), spec(2)])
    for block in (1, 2):
        world.do("a", block)
        world.do("liar", block, value=13)
    assert set(world.scheduler.disputed) == {1, 2}
    world.join("c")
    world.do("c", 1)
    assert world.banned == {"liar"}
    assert world.scheduler.disputed == {}
    world.do_all()
    assert world.accepted == {1: truth(1), 2: truth(2)}


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
    assert "no third can decide" in world.aborted


def test_a_dispute_about_used_numbers_is_not_withdrawn_in_silence() -> None:
    world = copied("a", "b")
    world.do("b", 1)
    world.do("a", 1, value=13)
    world.withdraw([1])
    assert "no third can decide" in world.aborted


def test_a_sample_is_not_kept_waiting_for_a_worker_that_is_lost() -> None:
    world = world_of("a", "b", verify_fraction=0.999)
    world.queue([spec(1)])
    world.do("a", 1)
    world.leave("b")
    world.pass_time(1.0)
    assert world.accepted == {1: truth(1)}
    assert world.scheduler.counters.unverified == 1
    world.join("c")
    assert world.sent == [("c", 1)]
    world.do("c", 1)
    assert world.scheduler.counters.verified == 1
    assert world.scheduler.ledger.blocks == {}


def test_a_sample_is_given_up_where_no_second_worker_comes() -> None:
    world = world_of("a", "b", verify_fraction=0.999)
    world.queue([spec(1)])
    world.do("a", 1)
    world.leave("b")
    world.pass_time(50.0)
    assert set(world.scheduler.ledger.blocks) == {1}
    world.pass_time(20.0)
    assert world.scheduler.ledger.blocks == {}
    assert world.accepted == {1: truth(1)}


def test_a_sample_is_not_kept_waiting_for_a_worker_that_is_silent() -> None:
    world = world_of("a", "b", verify_fraction=0.999)
    world.warm_up("a", "b")
    world.queue([same_shape(1)])
    world.do("a", 1)
    world.pass_time(1.0)
    assert world.accepted == {}
    world.pass_time(3.0)
    assert world.accepted == {1: truth(1)}
    world.queue([same_shape(2)])  # nobody could verify it
    world.do("a", 2)
    assert world.accepted == {1: truth(1), 2: truth(2)}
    world.do("b", 1)  # it is only late, and its answer counts
    counters = world.scheduler.counters
    assert (counters.verified, counters.unverified) == (1, 2)
    assert world.scheduler.ledger.blocks == {}
    world.queue([same_shape(3)])
    assert world.scheduler.ledger.blocks[3].wanted == 2


def test_an_answer_that_came_late_is_compared_with_the_one_that_was_used() -> None:
    world = world_of("liar", "b", verify_fraction=0.999)
    world.warm_up("liar", "b")
    world.queue([same_shape(1)])
    world.do("liar", 1, value=13)
    world.pass_time(50.0)
    assert world.accepted == {1: 13}
    world.errands.append(Errand("b", world.present["b"], 1))  # as if it had not been lost
    world.do("b", 1)
    assert world.scheduler.disputed == {1: [["liar"], ["b"]]}
    world.pass_time(50.0)  # counts from the dispute
    world.join("c")
    world.do("c", 1)
    assert world.aborted is None
    assert world.banned == {"liar"}
    assert world.scheduler.ledger.blocks == {}


def test_nobody_needs_to_confirm_what_a_known_liar_said() -> None:
    world = world_of("liar", "b", verify_fraction=0.999)
    world.warm_up("liar", "b")
    world.queue([same_shape(1), same_shape(2)])
    world.do("liar", 1, value=13)
    world.do("liar", 2, value=14)
    world.pass_time(4.0)
    assert world.accepted == {1: 13, 2: 14}
    world.do("b", 1)
    world.join("c")
    world.do("c", 1)
    assert world.banned == {"liar"}
    world.do_all()
    assert world.scheduler.disputed == {}
    assert world.scheduler.ledger.blocks == {}


def test_the_second_opinion_of_a_silent_worker_is_asked_of_a_third() -> None:
    world = world_of("a", "b", "c", verify_fraction=1)
    world.warm_up("a", "b", "c")
    world.queue([same_shape(1)])
    world.do("a", 1)
    world.pass_time(3.0)
    assert world.sent == [("b", 1), ("c", 1)]
    world.do("c", 1)
    assert world.accepted == {1: truth(1)}


def test_a_sample_is_not_kept_waiting_for_who_took_its_leave() -> None:
    world = world_of("a", "b", verify_fraction=0.999)
    world.queue([spec(1)])
    world.do("a", 1)
    world.drain("b")
    world.leave("b")
    world.pass_time(2.0)
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
    assert "worker a is the only one left" in world.aborted


def test_the_second_of_two_workers_may_try_again_what_failed_on_it() -> None:
    world = world_of("a", "b", verify_fraction=1)
    world.queue([spec(1)])
    world.do("a", 1)
    world.fail(world.errand("b", 1), events.FAILED)
    world.pass_time(1.0)
    world.do("b", 1)
    assert world.accepted == {1: truth(1)}


def test_who_failed_a_block_may_try_it_as_soon_as_all_others_have_answered() -> None:
    world = world_of("a", "b", verify_fraction=1)
    world.queue([spec(1)])
    world.fail(world.errand("a", 1), events.FAILED)
    world.pass_time(1.0)
    assert world.sent == [("b", 1)]
    world.do("b", 1)
    assert world.sent == [("a", 1)]  # without a tick


def test_the_wait_for_a_verifier_is_not_cut_short_by_backpressure() -> None:
    world = world_of("a", "b", verify_fraction=0.999, max_bytes_out=BLOCK_BYTES)
    world.queue([spec(1, priority=1)])
    world.queue([spec(2)])
    world.do("a", 1)
    assert [block for _, block in world.sent] == [2]
    world.pass_time(70.0)
    assert 1 not in world.accepted
