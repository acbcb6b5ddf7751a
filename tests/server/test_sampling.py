"""The random draws of a run."""

import numpy as np
import pytest

from kipper.common.errors import UserError
from kipper.server.sampling import support_rows, target_rows, validation_rows

BALANCED = np.arange(300) % 10
IMBALANCED = np.repeat([0, 1, 2], [200, 30, 4])


def counts(labels: np.ndarray, rows: np.ndarray) -> list[int]:
    return np.bincount(labels[rows], minlength=labels.max() + 1).tolist()


@pytest.mark.parametrize("size", [10, 50, 300])
def test_support_is_balanced_and_sorted_by_class(size: int) -> None:
    rows = support_rows(BALANCED, 10, size, seed=0)
    assert len(np.unique(rows)) == size
    np.testing.assert_array_equal(BALANCED[rows], np.repeat(np.arange(10), size // 10))


@pytest.mark.parametrize("size", [1, 9, 15, 101])
def test_a_support_size_that_is_not_a_multiple_of_the_classes_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"--support_size is {size}; .*multiple of the 10 classes"):
        support_rows(BALANCED, 10, size, seed=0)


def test_a_support_size_beyond_the_smallest_class_is_refused() -> None:
    assert counts(IMBALANCED, support_rows(IMBALANCED, 3, 12, seed=0)) == [4, 4, 4]
    with pytest.raises(UserError, match="--support_size is 15, 5 for each of 3 classes"):
        support_rows(IMBALANCED, 3, 15, seed=0)
    with pytest.raises(UserError, match="--support_size is 4"):
        support_rows(IMBALANCED, 4, 4, seed=0)  # a class without any image


@pytest.mark.parametrize("step", [0, 1, 1000])
def test_a_target_batch_is_balanced_sorted_and_without_repetition(step: int) -> None:
    rows = target_rows(BALANCED, 10, 125, seed=3, step=step)
    assert len(rows) == 125
    assert (np.diff(rows) > 0).all()
    assert set(counts(BALANCED, rows)) == {12, 13}


def test_a_target_batch_has_at_most_all_rows() -> None:
    np.testing.assert_array_equal(target_rows(BALANCED, 10, 5000, 0, 0), np.arange(300))


def test_a_target_batch_takes_what_small_classes_have() -> None:
    rows = target_rows(IMBALANCED, 3, 90, seed=0, step=0)
    assert len(rows) == 90
    per_class = counts(IMBALANCED, rows)
    assert per_class[1:] == [30, 4]


def test_draws_are_functions_of_seed_and_step() -> None:
    first = target_rows(BALANCED, 10, 50, seed=1, step=2)
    target_rows(BALANCED, 10, 50, seed=1, step=3)
    np.random.default_rng(0).normal()
    np.testing.assert_array_equal(first, target_rows(BALANCED, 10, 50, seed=1, step=2))
    np.testing.assert_array_equal(
        support_rows(BALANCED, 10, 50, 1), support_rows(BALANCED, 10, 50, 1)
    )
    np.testing.assert_array_equal(
        validation_rows(BALANCED, 10, 1), validation_rows(BALANCED, 10, 1)
    )


def test_steps_and_seeds_draw_differently() -> None:
    draws = [
        target_rows(BALANCED, 10, 50, seed, step).tobytes()
        for seed in (0, 1, 2**40)
        for step in range(20)
    ]
    assert len(set(draws)) == len(draws)
    supports = [support_rows(BALANCED, 10, 50, seed).tobytes() for seed in range(20)]
    assert len(set(supports)) == 20
    held_out = [validation_rows(BALANCED, 10, seed).tobytes() for seed in range(20)]
    assert len(set(held_out)) == 20


def test_the_streams_of_one_seed_are_independent() -> None:
    for seed in range(5):
        support = np.sort(support_rows(BALANCED, 10, 30, seed))
        target = target_rows(BALANCED, 10, 30, seed, step=0)
        validation = validation_rows(BALANCED, 10, seed)
        assert len(support) == len(target) == len(validation) == 30
        assert not np.array_equal(support, target)
        assert not np.array_equal(support, validation)
        assert not np.array_equal(target, validation)


def test_over_many_steps_every_row_is_drawn() -> None:
    drawn = np.concatenate([target_rows(BALANCED, 10, 30, 0, step) for step in range(100)])
    times = np.bincount(drawn, minlength=300)
    assert times.min() >= 1
    assert times.max() <= 30


@pytest.mark.parametrize(("num_rows", "held_out"), [(9, 0), (10, 1), (300, 30), (60_000, 5000)])
def test_validation_is_a_tenth_and_at_most_5000(num_rows: int, held_out: int) -> None:
    labels = np.arange(num_rows) % 10
    rows = validation_rows(labels, 10, seed=0)
    assert len(rows) == held_out
    assert (np.diff(rows) > 0).all()
    per_class = np.bincount(labels[rows], minlength=10)
    assert per_class.max() - per_class.min() <= 1


def test_the_class_that_is_too_small_is_named_with_what_was_held_out() -> None:
    with pytest.raises(UserError) as error:
        support_rows(IMBALANCED, 3, 15, 0, ("cat", "dog", "emu"), [20, 3, 1])
    assert "class 'emu' has fewer training images: 4, without 1 held out" in str(error.value)
    assert "--support_size=12 or less" in str(error.value)
