"""Which worker gets which block, and duplicates of late ones: rules 4 and 7."""

import pytest
from simulated_world import World, same_shape, spec, truth, world_of

from kipper.server.scheduler import events, rules
from kipper.server.scheduler.events import CancelBlock


def pieces(rows: str, columns: str, size: int = 50):
    return {"pieces": ((rows, size), (columns, size))}


# --- rule 4: placement ----------------------------------------------------------------------------


def test_the_most_urgent_block_goes_first() -> None:
    world = world_of()
    world.queue([spec(1, priority=2), spec(2, priority=1), spec(3, priority=0)])
    world.join("a")
    assert world.sent == [("a", 3)]
    world.do("a", 3)
    assert world.sent == [("a", 2)]


def test_nothing_less_urgent_stands_between_a_worker_and_what_may_be_queued() -> None:
    world = world_of("a")
    world.queue([spec(1, priority=1), spec(2, priority=1)])
    assert world.sent == [("a", 1)]
    world.queue([spec(3)])
    assert world.sent == [("a", 1), ("a", 3)]


def test_nothing_less_urgent_is_begun_behind_what_is_urgent_and_meant_for_another() -> None:
    world = world_of("a", "b")
    world.queue([spec(1, prefers="a"), *(spec(block, prefers="b") for block in (2, 3, 4))])
    world.queue([spec(5, priority=1)])
    assert sorted(world.sent) == [("a", 1), ("b", 2), ("b", 3)]


def test_few_blocks_spread_over_the_workers() -> None:
    world = world_of("a", "b", "c")
    world.queue([spec(block) for block in range(3)])
    assert sorted(worker for worker, _ in world.sent) == ["a", "b", "c"]


def test_a_block_goes_to_the_worker_that_kept_its_residuals() -> None:
    world = world_of("a", "b")
    world.queue([spec(1, prefers="b"), spec(2, prefers="b"), spec(3, prefers="a")])
    assert sorted(world.sent) == [("a", 3), ("b", 1), ("b", 2)]


def test_an_idle_worker_computes_what_is_bound_to_one_with_more_than_it_can_begin() -> None:
    world = world_of("a", "b")
    world.queue([spec(block, prefers="b") for block in range(1, 6)])
    sent = world.sent
    assert [block for worker, block in sent if worker == "a"] == [5]  # the last of them
    assert [block for worker, block in sent if worker == "b"] == [1, 2]


def test_a_worker_that_has_something_to_do_steals_nothing() -> None:
    world = world_of("a", "b")
    world.queue([spec(1, prefers="a"), *(spec(block, prefers="b") for block in range(2, 6))])
    assert [block for worker, block in world.sent if worker == "a"] == [1]


def test_a_preferred_worker_that_left_is_not_waited_for() -> None:
    world = world_of("a", "b")
    world.queue([spec(block, prefers="b") for block in range(8)])
    world.leave("b")
    world.pass_time(1.0)
    world.queue([spec(9, prefers="b")])
    world.do_all()
    assert len(world.accepted) == 9


@pytest.mark.parametrize("held", ["rows", "columns"])
def test_a_worker_gets_the_block_for_which_the_fewest_bytes_must_be_sent(held: str) -> None:
    world = world_of("a")
    first = pieces("r0", "c0")
    near = pieces("r0", "c1") if held == "rows" else pieces("r1", "c0")
    world.queue([spec(1, **first), spec(2, priority=1, **first)])
    far = [spec(block, priority=1, **pieces(f"r{block}", f"c{block}")) for block in range(10, 20)]
    world.queue([*far, spec(3, priority=1, **near)])
    for block in (1, 2, 3):
        assert world.sent == [("a", block)]
        world.do("a", block)


def test_of_two_pieces_it_is_the_larger_that_a_worker_should_hold() -> None:
    world = world_of("a")
    world.queue([spec(1, pieces=(("large", 1000), ("small", 1)))])
    world.queue(
        [
            spec(2, priority=1, pieces=(("other large", 1000), ("small", 1))),
            spec(3, priority=1, pieces=(("large", 1000), ("other small", 1))),
        ]
    )
    world.do("a", 1)
    assert world.sent == [("a", 3)]


def test_a_worker_that_holds_nothing_begins_columns_that_are_least_served() -> None:
    world = world_of()
    world.queue([spec(1, **pieces("r1", "few"))])
    world.queue([spec(block, **pieces(f"r{block}", "many")) for block in range(10, 16)])
    world.queue([spec(block, **pieces(f"r{block}", "some")) for block in range(20, 23)])
    world.join("a")
    world.join("b")
    assert [block // 10 for worker, block in world.sent if worker == "a"] == [1, 1]
    assert [block // 10 for worker, block in world.sent if worker == "b"] == [2, 2]


def test_rows_travel_to_few_workers() -> None:
    world = world_of(*(f"w{number}" for number in range(8)))
    blocks = [spec(b, **pieces(f"r{b % 20}", f"c{b // 20}")) for b in range(20 * 40)]
    world.queue(blocks)
    sent: dict[str, set[str]] = {}
    total = 0
    while world.errands:
        worker, block = world.sent[0]
        needed = {piece for piece, _ in blocks[block].pieces}
        total += len(needed - sent.setdefault(worker, set()))
        sent[worker] |= needed
        world.do(worker, block, seconds=0.1)
    # All workers need all rows (8 x 20), columns ideally one worker each (40).
    assert total < 1.4 * (8 * 20 + 40)


def slow_pair() -> World:
    """Ten times slower than the others: c."""
    world = world_of("a", "b", "c")
    world.warm_up("a", "b")
    world.warm_up("a", "b", "c")
    for _ in range(5):
        world.note_time("c", 10.0)
    world.warm_up("a", "b")
    return world


def test_a_slow_worker_gets_none_that_the_others_would_finish_sooner() -> None:
    world = slow_pair()
    world.queue([same_shape(block) for block in range(6)])
    assert {worker for worker, _ in world.sent} == {"a", "b"}
    world.do_all()
    assert len(world.accepted) == 6


def test_a_slow_worker_helps_where_there_is_enough_to_do() -> None:
    world = slow_pair()
    world.queue([same_shape(block) for block in range(60)])
    assert len([sent for sent in world.sent if sent[0] == "c"]) == 1


def test_a_slow_worker_helps_if_the_others_do_not_come_round_to_it() -> None:
    world = slow_pair()
    world.queue([same_shape(block) for block in range(6)])
    world.drain("a")
    world.drain("b")
    world.pass_time(9.0)
    assert {worker for worker, _ in world.sent} == {"a", "b"}
    world.pass_time(4.0)
    assert "c" in {worker for worker, _ in world.sent}


def test_the_only_worker_is_never_too_slow() -> None:
    world = slow_pair()
    world.leave("a")
    world.leave("b")
    world.queue([same_shape(1)])
    assert world.sent == [("c", 1)]


# --- rule 7: duplicates ---------------------------------------------------------------------------


def test_an_idle_worker_takes_what_waits_behind_another_block() -> None:
    world = world_of("a")
    world.queue([spec(1), spec(2)])
    world.join("b")
    assert world.sent == [("a", 1), ("a", 2), ("b", 2)]
    assert world.of(CancelBlock) == [CancelBlock("a", 2)]
    assert world.scheduler.counters.taken == 1
    world.fail(world.errand("a", 2), events.CANCELLED)
    assert world.scheduler.counters.failed == 0
    world.do_all()
    assert set(world.accepted) == {1, 2}


@pytest.mark.parametrize(("passed", "taken"), [(0.4, True), (0.6, False)])
def test_what_its_owner_kept_residuals_of_is_taken_only_if_that_saves_time(passed, taken) -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b", seconds=0.5, shape="K 4x4")
    world.warm_up("a", "b", seconds=1.0, shape="vjp 4x4")
    owners = {1: "a", 2: "a", 3: "b"}
    world.queue([spec(block, shape="vjp 4x4", prefers=name) for block, name in owners.items()])
    world.do("b", 3, seconds=passed)
    assert (("b", 2) in world.sent) == taken
    world.do_all()
    assert set(world.accepted) == {1, 2, 3}


def test_a_cancellation_that_came_late_excuses_one_refusal_of_the_block() -> None:
    world = world_of("a")
    world.queue([spec(1), spec(2)])
    world.join("b")  # takes over block 2, and a is told not to begin it
    world.fail(world.errand("a", 2), events.TRANSPORT)  # its request or its answer was lost
    world.leave("b")
    failed = world.scheduler.counters.failed
    world.pass_time(6.0)
    world.fail(world.errand("a", 2), events.CANCELLED)  # the cancellation came in between
    assert world.scheduler.counters.failed == failed
    world.pass_time(6.0)
    world.fail(world.errand("a", 2), events.CANCELLED)  # and this time nothing had
    assert world.scheduler.counters.failed == failed + 1
    world.pass_time(6.0)
    world.do_all()
    assert set(world.accepted) == {1, 2}


def test_a_stolen_and_cancelled_block_is_resumed_if_the_thief_dies() -> None:
    world = world_of("a")
    world.queue([spec(1), spec(2)])
    world.join("b")
    world.leave("b")
    world.fail(world.errand("a", 2), events.CANCELLED)
    world.pass_time(1.0)
    world.do_all()
    assert set(world.accepted) == {1, 2}


def test_a_worker_that_is_slow_takes_nothing() -> None:
    world = slow_pair()
    world.leave("b")
    world.queue([same_shape(1), same_shape(2)])
    world.pass_time(2.0)
    assert world.sent == [("a", 1), ("a", 2)]


def test_the_second_copy_that_verification_wants_takes_nothing_away() -> None:
    world = world_of("a", verify_fraction=1)
    world.queue([spec(1), spec(2)])
    world.join("b")
    assert sorted(world.sent) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert world.of(CancelBlock) == []


def test_a_late_block_is_copied_to_an_idle_worker_and_the_first_answer_wins() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.queue([same_shape(1)])
    world.pass_time(1.1)
    assert world.sent == [("a", 1)]
    world.pass_time(0.2)
    assert world.sent == [("a", 1), ("b", 1)]
    assert world.scheduler.counters.copies == 1
    world.do("b", 1)
    assert world.accepted == {1: truth(1)}
    assert world.of(CancelBlock) == [CancelBlock("a", 1)]
    world.do("a", 1)
    assert world.scheduler.ledger.blocks == {}


def test_a_block_is_late_against_blocks_of_its_shape() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.warm_up("a", "b", seconds=50.0, shape="shape 1")
    world.queue([spec(1, shape="shape 1")])
    world.pass_time(40.0)
    assert world.sent == [("a", 1)]
    world.queue([spec(2, shape="never seen")])
    world.do("a", 1)
    world.pass_time(500.0)
    assert world.sent == [("b", 2)]


def test_milliseconds_are_never_late() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b", seconds=0.001)
    world.queue([same_shape(1)])
    world.pass_time(0.04)
    assert world.sent == [("a", 1)]


def test_no_third_worker_gets_a_copy_that_another_has_in_time() -> None:
    world = world_of("a", "b", "c")
    world.warm_up("a", "b", "c")
    world.queue([same_shape(1)])
    world.pass_time(1.5)
    world.pass_time(0.5)
    assert world.sent == [("a", 1), ("b", 1)]


def test_blocks_queued_behind_a_late_one_go_to_others() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.queue([same_shape(block) for block in range(4)])
    stuck, behind = (block for worker, block in world.sent if worker == "a")
    for block in [block for worker, block in world.sent if worker == "b"]:
        world.do("b", block, seconds=0.9)
    assert ("b", behind) in world.sent
    assert CancelBlock("a", behind) in world.of(CancelBlock)
    world.do("b", behind, seconds=0.9)
    world.do("b", stuck, seconds=0.9)
    assert set(world.accepted) == {0, 1, 2, 3}


def test_copies_are_a_small_share_of_all_blocks() -> None:
    workers = [f"w{number}" for number in range(40)]
    world = world_of(*workers)
    world.warm_up(*workers)
    world.queue([same_shape(block) for block in range(20)])
    world.pass_time(1.3)
    world.pass_time(0.1)
    assert world.scheduler.counters.copies == rules.FIRST_COPIES + 1  # 2 % of twenty and more
    world.pass_time(5.0)  # so long that they seem frozen
    assert world.scheduler.counters.copies >= 20


@pytest.mark.parametrize("priority", [0, 1])
def test_copies_are_not_made_while_as_urgent_blocks_wait(priority: int) -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.queue([same_shape(block, priority=priority) for block in range(9)])
    before = len(world.sent)
    world.pass_time(3.0)
    assert len(world.sent) == before
    assert world.scheduler.counters.copies == 0


def test_a_copy_goes_ahead_of_what_is_less_urgent() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.queue([same_shape(1), *(same_shape(block, priority=1) for block in range(2, 9))])
    (other,) = (block for worker, block in world.sent if worker == "b")
    world.now += 1.5
    world.do("b", other)
    assert world.sent[-1] == ("b", 1)


def test_a_worker_that_rests_or_drains_gets_no_copies() -> None:
    world = world_of("a", "b", "c")
    world.warm_up("a", "b", "c")
    world.queue([same_shape(1), same_shape(2)])
    world.drain("c")
    world.fail(world.errand("b", 2), events.TRANSPORT)
    world.withdraw([2])
    world.now += 1.0
    world.scheduler.ledger.workers["b"].rests_until = world.now + 100
    world.pass_time(5.0)
    assert {worker for worker, _ in world.sent} == {"a"}


def test_a_copy_is_no_verdict_on_the_worker() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.queue([same_shape(1)])
    world.pass_time(1.5)
    world.do("b", 1)
    world.do("a", 1)
    assert set(world.present) == {"a", "b"}
    assert world.scheduler.counters.failed == 0
