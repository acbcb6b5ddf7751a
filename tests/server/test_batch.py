"""Blocks asked for together: queued ahead, within bounds, and given back in order."""

from collections.abc import Iterator

import pytest

from kipper.server import batch as batch_module
from kipper.server.batch import Batch
from kipper.server.scheduler.events import BlockSpec


class Blocks:
    """A queue whose blocks are done in reverse, a few at a time; request n is worth n + 1."""

    def __init__(self, capacity: int = 2, size: int = 10, done_at_once: int = 3):
        self.queued: list[int] = []
        self.results: dict[int, int] = {}
        self.chunks: list[int] = []
        self.most_ahead = 0
        self._capacity = capacity
        self._size = size
        self._done_at_once = done_at_once
        self._undone: list[int] = []

    def batch(self, requests: Iterator[int] | range) -> Batch:
        return Batch(requests, self.queue, self.results, self.work, lambda: self._capacity)

    def queue(self, requests: list[int]) -> list[BlockSpec]:
        first = len(self.queued)
        self.queued += requests
        self.chunks.append(len(requests))
        numbers = list(range(first, len(self.queued)))
        self._undone += numbers
        return [BlockSpec(number, "s", 0, (), self._size) for number in numbers]

    def work(self) -> None:
        assert self._undone, "nothing is under way and somebody waits"
        for _ in range(min(self._done_at_once, len(self._undone))):
            number = self._undone.pop()
            self.results[number] = self.queued[number] + 1


@pytest.mark.parametrize("number", [0, 1, 2, 1000])
def test_results_come_in_the_order_of_the_requests(number: int) -> None:
    blocks = Blocks()
    assert list(blocks.batch(range(number))) == list(range(1, number + 1))
    assert blocks.results == {}
    assert blocks.queued == list(range(number))


def test_the_first_are_queued_before_any_result_is_asked_for() -> None:
    blocks = Blocks()
    made = blocks.batch(range(10))
    assert blocks.queued == list(range(10))
    assert made.outstanding == list(range(10))
    next(made)
    assert made.outstanding == list(range(1, 10))


@pytest.mark.parametrize(("capacity", "most"), [(2, 256), (200, 800)])
def test_only_so_many_are_ahead(capacity: int, most: int) -> None:
    blocks = Blocks(capacity)
    made = blocks.batch(range(5000))
    assert len(blocks.queued) == most
    for taken, _ in enumerate(made, start=1):
        assert len(blocks.queued) <= taken + most


def test_only_so_many_bytes_are_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "MAX_BYTES_AHEAD", 100)
    blocks = Blocks(size=30)
    for taken, _ in enumerate(blocks.batch(range(50)), start=1):
        assert len(blocks.queued) - taken <= 4  # the last may go beyond
    assert len(blocks.queued) == 50


def test_a_block_larger_than_the_bound_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "MAX_BYTES_AHEAD", 5)
    blocks = Blocks(size=30)
    for taken, _ in enumerate(blocks.batch(range(20)), start=1):
        assert len(blocks.queued) <= taken + 1


def test_requests_are_queued_many_at_a_time() -> None:
    blocks = Blocks()
    blocks.batch(range(256))
    assert len(blocks.chunks) <= 3


def test_a_request_that_cannot_be_made_ends_the_batch_and_nothing_before_it_is_lost() -> None:
    def requests() -> Iterator[int]:
        yield from range(300)
        raise RuntimeError("no more")

    blocks = Blocks()
    made = blocks.batch(requests())
    taken = []
    with pytest.raises(RuntimeError, match="no more"):
        taken.extend(made)
    assert set(made.outstanding) <= set(range(300))
