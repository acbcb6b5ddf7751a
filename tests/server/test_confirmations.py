"""Which workers' answers results rest on, and from where they are in doubt."""

import json

import pytest

from kipper.server import confirmations as module
from kipper.server.confirmations import Confirmations


def use(
    found: Confirmations, block: int, position: int, *groups: str, accepted: str | None = None
) -> None:
    """A block to which workers, one a letter, gave equal answers if they are in one group."""
    for group in groups:
        for number, worker in enumerate(group):
            found.answered(block, worker, group[:number])
    found.accepted(block, accepted or groups[0][0])
    found.used(block, position)
    found.finished(block)


def test_one_workers_word_is_in_doubt_from_where_it_was_first_taken() -> None:
    found = Confirmations()
    use(found, 1, 3, "a")
    use(found, 2, 5, "b")
    use(found, 3, 7, "a")
    assert found.in_doubt_from({"a"}, 9) == 3
    assert found.in_doubt_from({"b"}, 9) == 5
    assert found.in_doubt_from({"a", "b"}, 9) == 3
    assert found.in_doubt_from({"c"}, 9) is None
    assert found.in_doubt_from(set(), 9) is None


def test_a_confirmed_answer_is_in_doubt_once_all_who_gave_it_are_liars() -> None:
    found = Confirmations()
    use(found, 1, 3, "ab")
    use(found, 2, 5, "a")
    use(found, 3, 6, "b")
    assert found.in_doubt_from({"a"}, 9) == 5
    assert found.in_doubt_from({"b", "c"}, 9) == 6
    assert found.in_doubt_from({"a", "b"}, 9) == 3
    assert (found.num_used, found.num_confirmed) == (3, 1)


def test_an_answer_that_comes_after_the_result_was_used_confirms_it() -> None:
    found = Confirmations()
    found.answered(1, "a", ())
    found.accepted(1, "a")
    found.used(1, 4)
    assert found.in_doubt_from({"a"}, 9) == 4
    assert (found.num_used, found.num_confirmed) == (1, 0)
    found.answered(1, "b", ("a",))
    assert found.in_doubt_from({"a"}, 9) is None
    found.finished(1)
    assert found.in_doubt_from({"a"}, 9) is None
    assert found.in_doubt_from({"a", "b"}, 9) == 4
    assert (found.num_used, found.num_confirmed) == (1, 1)


def test_an_answer_that_differs_confirms_nothing() -> None:
    found = Confirmations()
    use(found, 1, 4, "a", "b")
    assert found.in_doubt_from({"a"}, 9) == 4
    assert found.in_doubt_from({"b"}, 9) is None


def test_a_result_that_waits_is_in_doubt_at_the_present_position() -> None:
    found = Confirmations()
    found.answered(1, "a", ())
    found.accepted(1, "a")
    found.finished(1)
    assert found.in_doubt_from({"a"}, 9) == 9
    found.used(1, 10)
    assert found.in_doubt_from({"a"}, 99) == 10


def test_a_withdrawn_result_is_in_no_doubt() -> None:
    found = Confirmations()
    found.answered(1, "a", ())
    found.accepted(1, "a")
    found.withdrawn(1)
    found.answered(2, "a", ())
    found.finished(2)
    assert found.in_doubt_from({"a"}, 9) is None
    assert found.num_used == 0


def test_what_is_recorded_can_be_read() -> None:
    found = Confirmations()
    use(found, 1, 3, "ab")
    use(found, 2, 5, "a")
    found.liars["c"] = 2
    found.answered(3, "b", ())  # still followed
    found.accepted(3, "b")
    found.used(3, 6)
    record = found.record()
    read = Confirmations.read(json.loads(json.dumps(record)), 9)
    assert read.record() == record
    assert (read.num_used, read.num_confirmed, read.liars) == (3, 1, {"c": 2})
    assert read.in_doubt_from({"b"}, 9) == 6
    assert read.in_doubt_from({"a", "b"}, 9) == 3


def test_without_a_record_any_liar_may_have_computed_everything() -> None:
    found = Confirmations.read(None, 4)
    assert found.in_doubt_from({"a"}, 9) == 0
    assert found.in_doubt_from(set(), 9) is None
    assert Confirmations.read(None, 0).in_doubt_from({"a"}, 9) is None


def test_a_state_does_not_rest_on_what_was_used_after_it() -> None:
    found = Confirmations()
    use(found, 1, 3, "a")
    use(found, 2, 4, "b")
    read = Confirmations.read(found.record(), 4)
    assert read.in_doubt_from({"a"}, 9) == 3
    assert read.in_doubt_from({"b"}, 9) is None


def test_memory_does_not_grow_with_positions_nor_with_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_GROUPS", 5)
    found, workers = Confirmations(), "abcdefgh"
    for position in range(500):
        first, second = workers[position % 8], workers[position * 5 % 7]
        groups = (first + second,) if first != second else (first,)
        use(found, position, position, *groups)
        use(found, 1000 + position, position, first)
    record = found.record()
    assert len(record["first"]) <= 5 + len(workers)
    assert found.in_doubt_from({"c"}, 999) == 2
