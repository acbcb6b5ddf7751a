"""How block times are summarised, and workers compared with them."""

import pytest

from kipper.server.scheduler.block_times import BlockTimes, Pace


class Workers:
    """Block times, and the pace of each worker that contributed to them."""

    def __init__(self, *blocks: tuple[str, float]):
        self.times = BlockTimes()
        self.pace = {name: Pace() for name in "ab"}
        for worker, seconds in blocks:
            self.add(worker, seconds)

    def add(self, worker: str, seconds: float) -> None:
        self.times.add(self.pace[worker], "s", seconds)


def test_a_shape_that_was_never_computed_has_no_expected_time() -> None:
    workers = Workers(("a", 1.0))
    assert "other" not in workers.times.expected
    assert "other" not in workers.times.slow
    assert workers.pace["a"].shapes == {"s"}
    assert workers.pace["a"].slowness == 1.0


def test_a_workers_first_block_counts_only_while_there_are_no_others() -> None:
    workers = Workers(("a", 60.0))
    assert workers.times.expected["s"] == 60.0  # includes compilation, until more is known
    assert "s" in workers.pace["a"].shapes
    for _ in range(3):
        workers.add("a", 1.0)
    workers.add("b", 60.0)
    assert workers.times.expected["s"] == 1.0
    assert workers.pace["b"].slowness == 1.0


def test_the_median_follows_recent_blocks() -> None:
    workers = Workers(*[("a", 1.0)] * 40)
    assert workers.times.expected["s"] == workers.times.typical == 1.0
    for _ in range(20):
        workers.add("a", 5.0)
    assert workers.times.expected["s"] == 5.0


def test_nine_in_ten_blocks_are_faster_than_slow() -> None:
    workers = Workers(*[("a", 1.0 + number % 31 / 30) for number in range(32)])
    assert workers.times.expected["s"] == pytest.approx(1.5)
    assert workers.times.slow["s"] == pytest.approx(1.9, abs=0.07)


def test_slowness_is_relative_to_the_median_and_one_straggler_has_no_effect() -> None:
    workers = Workers(*[("a", 1.0), ("b", 1.0)] * 20)
    workers.add("b", 30.0)
    assert workers.pace["b"].slowness == 1.0
    for _ in range(5):
        workers.add("b", 3.0)
        for _ in range(3):
            workers.add("a", 1.0)
    assert workers.pace["b"].slowness == 3.0
    assert workers.pace["a"].slowness == 1.0


def test_blocks_of_zero_duration_cause_no_division_by_zero() -> None:
    workers = Workers(*[("a", 0.0)] * 4)
    assert workers.pace["a"].slowness == 1.0
