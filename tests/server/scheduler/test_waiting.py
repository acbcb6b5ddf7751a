"""The queue by itself."""

import pytest

from kipper.server.scheduler.events import BlockSpec
from kipper.server.scheduler.waiting import Waiting


def spec(block: int, priority: int = 0, rows: str = "r", columns: str = "c") -> BlockSpec:
    return BlockSpec(block, "shape", priority, ((rows, 10), (columns, 10)), 100)


def anyone(block: int) -> bool:
    return True


def test_blocks_come_in_the_order_they_were_queued_and_those_queued_first_before() -> None:
    waiting = Waiting()
    for block in (3, 1, 2):
        waiting.add(spec(block), None)
    waiting.add(spec(9), None, first=True)
    assert 9 in waiting
    order = []
    while waiting:
        block = waiting.choose("w", {}, {}, anyone)
        waiting.remove(block)
        order.append(block)
    assert order == [9, 3, 1, 2]
    assert len(waiting) == 0


def test_a_block_that_its_worker_may_not_compute_is_passed_by() -> None:
    waiting = Waiting()
    for block in range(6):
        waiting.add(spec(block, columns=f"c{block % 2}"), "w" if block == 5 else None)
    assert waiting.choose("w", {"c0": 10}, {}, lambda block: block == 3) == 3
    assert waiting.choose("w", {}, {}, lambda block: False) is None


def test_only_blocks_urgent_enough_are_given_out() -> None:
    waiting = Waiting()
    assert waiting.most_urgent() is None
    waiting.add(spec(1, priority=1), None)
    assert waiting.most_urgent() == 1
    assert waiting.choose("w", {}, {}, anyone, least=0) is None
    waiting.add(spec(2, priority=0), None)
    assert waiting.most_urgent() == 0
    assert waiting.choose("w", {}, {}, anyone, least=0) == 2
    waiting.remove(2)
    assert waiting.most_urgent() == 1


def test_blocks_bound_to_a_worker_are_not_offered_to_others_until_it_goes() -> None:
    waiting = Waiting()
    waiting.add(spec(3), "b")
    waiting.add(spec(1), "a")
    waiting.add(spec(2), "a")
    assert waiting.choose("c", {"r": 10}, {}, anyone) is None
    assert not waiting.has_any_for("c")
    assert waiting.has_any_for("a")
    assert waiting.choose_bound_elsewhere(anyone) == 2  # the last of the longest queue
    assert waiting.choose_bound_elsewhere(lambda block: block == 3) == 3
    waiting.unbind("a")
    assert waiting.has_any_for("c")
    assert waiting.choose("c", {}, {}, anyone) == 1
    for block in (1, 2, 3):
        waiting.remove(block)
    assert list(waiting) == []
    assert not waiting.has_any_for("b")


@pytest.mark.parametrize("bound_to", [None, "w"])
def test_removed_blocks_are_forgotten(bound_to: str | None) -> None:
    waiting = Waiting()
    empty = repr(vars(waiting))
    for block in range(20):
        waiting.add(spec(block, priority=block % 3, rows=f"r{block}"), bound_to)
    for block in range(20):
        waiting.remove(block)
    assert repr(vars(waiting)) == empty
