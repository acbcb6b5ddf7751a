"""What is known of how long blocks take."""

import pytest

from kipper.server.scheduler.block_times import BlockTimes


def times_of(*notes: tuple[str, float], shape: str = "s") -> BlockTimes:
    times = BlockTimes()
    for worker, seconds in notes:
        times.note(worker, shape, seconds)
    return times


def test_nothing_is_known_of_a_shape_that_was_never_computed() -> None:
    times = times_of(("a", 1.0))
    assert times.expected("other") is None
    assert times.slow("other") is None
    assert not times.is_warm("a", "other")
    assert times.slowness("a") == 1.0


def test_a_workers_first_block_counts_only_while_there_are_no_others() -> None:
    times = times_of(("a", 60.0))
    assert times.expected("s") == 60.0  # compilation included, until more is known
    assert times.is_warm("a", "s")
    for _ in range(3):
        times.note("a", "s", 1.0)
    times.note("b", "s", 60.0)
    assert times.expected("s") == 1.0
    assert times.slowness("b") == 1.0


def test_the_median_follows_recent_blocks() -> None:
    times = times_of(*[("a", 1.0)] * 40)
    assert times.expected("s") == times.typical() == 1.0
    for _ in range(20):
        times.note("a", "s", 5.0)
    assert times.expected("s") == 5.0


def test_nine_in_ten_blocks_stay_below_what_is_slow() -> None:
    times = BlockTimes()
    for number in range(32):
        times.note("a", "s", 1.0 + number % 31 / 30)
    assert times.expected("s") == pytest.approx(1.5)
    assert times.slow("s") == pytest.approx(1.9, abs=0.07)


def test_slowness_is_against_the_median_and_one_straggler_does_not_make_it() -> None:
    times = times_of(*[("a", 1.0), ("b", 1.0)] * 20)
    times.note("b", "s", 30.0)
    assert times.slowness("b") == 1.0
    for _ in range(5):
        times.note("b", "s", 3.0)
        for _ in range(3):
            times.note("a", "s", 1.0)
    assert times.slowness("b") == 3.0
    assert times.slowness("a") == 1.0


def test_a_worker_that_comes_by_the_name_of_one_that_went_is_another() -> None:
    times = times_of(*[("a", 1.0)] * 5, *[("b", 9.0)] * 6)
    times.forget_worker("b")
    assert times.slowness("b") == 1.0
    assert not times.is_warm("b", "s")
    times.forget_worker("never seen")


def test_blocks_that_take_no_time_are_no_reason_to_divide_by_it() -> None:
    times = times_of(*[("a", 0.0)] * 4)
    assert times.slowness("a") == 1.0
