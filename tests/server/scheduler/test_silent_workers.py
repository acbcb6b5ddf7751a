"""No block waits for one worker that does not answer, where another one is free."""

import dataclasses
import random

import hypothesis
from hypothesis import strategies as st
from simulated_world import BLOCK_BYTES, World, same_shape, spec, truth, world_of

from kipper.server.scheduler import events, rules


def with_a_silent_worker(*others: str, **policy) -> World:
    """A world in which "silent" has block 0 and does not answer it, and a copy was computed."""
    world = world_of("silent", *others, **policy)
    world.warm_up("silent", *others)
    world.prove("silent", *others)
    world.queue([same_shape(0)])
    for worker in others:
        if (worker, 0) in world.sent:  # everything is verified
            world.do(worker, 0)
    world.pass_time(5.0)
    for worker, block in list(world.sent):
        if worker != "silent":
            world.do(worker, block)
    return world


def with_a_dispute(*workers: str) -> World:
    """Workers of which `a` and `b` gave different answers to block 1, after a while."""
    world = world_of(*workers)
    world.warm_up(*workers)
    world.queue([same_shape(1)])
    world.pass_time(5.0)
    world.do("a", 1)
    world.do("b", 1, value=13)
    return world


def test_a_block_that_waits_for_a_third_opinion_keeps_no_late_block_from_being_copied() -> None:
    world = with_a_dispute("a", "b")
    assert world.scheduler.disputed  # a third worker is needed
    world.queue([same_shape(2)])
    world.pass_time(3.0)
    assert world.sent == [("a", 2), ("b", 2)]


def test_nor_one_from_being_taken_over() -> None:
    world = with_a_dispute("a", "b")
    world.queue([same_shape(2), same_shape(3), same_shape(4)])
    behind = next(block for (worker, block) in world.sent[2:] if worker == "a")
    world.do("b", 3)
    assert ("b", behind) in world.sent


def test_a_third_opinion_on_a_used_answer_is_asked_of_a_fourth_worker() -> None:
    world = with_a_dispute("a", "b", "c", "d")
    assert world.sent == [("c", 1)]
    world.pass_time(5.0)
    assert world.sent == [("c", 1), ("d", 1)]
    world.do("d", 1)
    assert world.banned == {"b"}


def test_a_block_that_failed_does_not_wait_for_a_silent_worker() -> None:
    world = with_a_silent_worker("a")
    world.queue([same_shape(1)])
    world.fail(world.errand("a", 1), events.FAILED)
    world.pass_time(1.0)
    world.pass_time(1.0)
    assert ("a", 1) in world.sent
    world.do("a", 1)
    assert world.accepted == {0: truth(0), 1: truth(1)}


def test_nor_for_a_silent_worker_that_has_proven_itself() -> None:
    world = with_a_silent_worker("a")
    world.join("new")
    world.queue([same_shape(1)])
    for worker, _ in list(world.sent):
        if worker == "a":
            world.fail(world.errand("a", 1), events.FAILED)
    world.pass_time(1.0)
    assert ("new", 1) in world.sent


def test_blocks_of_silent_workers_take_no_room_from_others() -> None:
    world = world_of("silent", "a", max_bytes_out=BLOCK_BYTES)
    world.warm_up("silent", "a")
    world.queue([spec(1, shape="shape 0")])
    assert world.sent == [("silent", 1)]
    world.queue([same_shape(2)])
    assert world.sent == [("silent", 1)]  # there is room for one block
    world.pass_time(5.0)
    world.pass_time(0.1)
    assert [worker for worker, _ in world.sent] == ["silent", "a"]
    world.do_all()
    assert world.accepted == {1: truth(1), 2: truth(2)}


@hypothesis.settings(deadline=None)  # the machine may be busy
@hypothesis.given(
    silent=st.integers(1, 2),
    healthy=st.integers(1, 3),
    fraction=st.sampled_from([0.0, 0.3, 0.999, 1.0]),
    room=st.sampled_from([1, 3, 1000]),
    draws=st.randoms(use_true_random=False),
)
def test_a_run_with_silent_workers_never_stands_still(
    silent: int, healthy: int, fraction: float, room: int, draws: random.Random
) -> None:
    hypothesis.assume(fraction < 1 or healthy > 1)  # where all is verified, two are needed
    names = [f"s{i}" for i in range(silent)] + [f"h{i}" for i in range(healthy)]
    draws.shuffle(names)
    world = world_of(*names, verify_fraction=fraction, max_bytes_out=room * BLOCK_BYTES)
    world.warm_up(*names, seconds=0.1)
    world.prove(*names)
    blocks = [same_shape(b, priority=draws.randrange(2)) for b in range(30)]
    world.queue([dataclasses.replace(b, prefers=draws.choice([None, *names])) for b in blocks])
    went_on = world.now
    while len(world.accepted) < len(blocks):
        assert world.now - went_on < silent * rules.FROZEN_SECONDS + 2.0
        before = len(world.accepted)
        world.pass_time(0.05)
        for errand in [e for e in world.errands if e.worker.startswith("h")][:healthy]:
            if errand in world.errands and draws.random() < 0.7:
                world.answer(errand, truth(errand.block))
            elif errand in world.errands and draws.random() < 0.1:
                world.fail(errand, events.FAILED)
        if len(world.accepted) > before:
            went_on = world.now
    assert world.accepted == {b.block: truth(b.block) for b in blocks}
