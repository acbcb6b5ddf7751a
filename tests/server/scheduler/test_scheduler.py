"""How blocks end, which workers get them, leases, backpressure, patience: rules 2, 3, 5, 9, 10."""

import pytest
from simulated_world import same_shape, spec, truth, world_of

from kipper.server.scheduler import events, rules
from kipper.server.scheduler.events import CancelBlock, DropWorker

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
    assert world.scheduler.ledger.blocks[1].failed == {"a": "another worker of this name joined"}


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
    world.pass_time(2)
    assert world.scheduler.ledger.workers["a"].stalled_since is not None
    world.join("b")
    world.pass_time(1)
    assert [sent for sent in world.sent if sent[0] == "b"] == [("b", 1)]


def test_a_slow_worker_has_longer() -> None:
    world = world_of("a", "b")
    world.warm_up("a", seconds=10)
    world.warm_up("a", "b", seconds=10)
    for _ in range(5):
        world.note_time("b", 80)
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


def test_blocks_queued_behind_a_late_one_are_not_late() -> None:
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


def test_events_are_counted() -> None:
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


def test_nothing_is_looked_at_while_no_block_can_be_late() -> None:
    world = world_of("a", "b")
    world.warm_up("a", "b")
    world.queue([same_shape(1)])
    world.pass_time(0.1)
    ticks = 0
    while len(world.sent) == 1:
        world.pass_time(world.scheduler.wake_in(world.now))
        ticks += 1
    assert world.now == pytest.approx(101.15, abs=0.1)
    assert ticks <= 5
