"""Targets, class-balanced draws, and the subsets of a data set made with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kipper.common.datasets import Dataset, limit
from kipper.common.errors import UserError
from kipper.common.labels import balanced_rows, centred_one_hot, rows_by_quota


def numbered_dataset(y_train: np.ndarray, num_classes: int) -> Dataset:
    """A data set whose only pixel is the number of its row."""
    images = np.arange(len(y_train), dtype=np.float32).reshape(-1, 1, 1, 1)
    names = tuple(str(label) for label in range(num_classes))
    return Dataset("numbered", images, y_train, images, y_train, names)


def test_centred_one_hot() -> None:
    targets = centred_one_hot(np.array([2, 0]), 4)
    assert targets.dtype == np.float64
    np.testing.assert_array_equal(
        targets, [[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]]
    )


@pytest.mark.parametrize("label", [-1, 3])
def test_centred_one_hot_refuses_labels_out_of_range(label: int) -> None:
    with pytest.raises(UserError, match=f"label {label}, expected 0 to 2"):
        centred_one_hot(np.array([0, label]), 3)


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None)
def test_balanced_rows_takes_as_much_of_each_class_as_is_fair(
    labels: np.ndarray, fraction: float, seed: int
) -> None:
    size = round(fraction * len(labels))
    rows = balanced_rows(labels, 5, size, np.random.default_rng(seed))
    assert len(rows) == size == len(set(rows.tolist()))
    available = np.bincount(labels, minlength=5)
    taken = np.bincount(labels[rows], minlength=5)
    assert (taken >= np.minimum(available, size // 5)).all()
    if (available > size // 5).all():
        assert (taken <= size // 5 + 1).all()


def test_balanced_rows_are_in_random_order_and_follow_the_generator() -> None:
    labels = np.repeat(np.arange(10), 20)
    first, again, other = (
        balanced_rows(labels, 10, 50, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)
    assert (np.diff(first) < 0).any()
    assert (np.diff(labels[first]) < 0).any()


def test_the_remainder_goes_to_every_class_in_turn() -> None:
    labels = np.repeat(np.arange(4), 5)
    rng = np.random.default_rng(0)
    extra = {int(labels[balanced_rows(labels, 4, 1, rng)][0]) for _ in range(60)}
    assert extra == {0, 1, 2, 3}


def test_a_deficit_is_filled_uniformly_from_the_other_classes() -> None:
    # Class 0 lacks 9 of its 10; 2 images of class 1 and 18 of class 2 are left to fill them.
    labels = np.repeat([0, 1, 2], [1, 12, 28])
    rng = np.random.default_rng(0)
    draws = [balanced_rows(labels, 3, 30, rng) for _ in range(400)]
    counts = np.bincount(labels[np.concatenate(draws)], minlength=3)
    filled = counts / 400 - [1, 10, 10]
    # 9 of 20 drawn: 0.9 of class 1 on average, with a standard error of 0.03.
    np.testing.assert_allclose(filled, [0, 0.9, 8.1], atol=0.15)


@pytest.mark.parametrize("size", [-1, 4])
def test_balanced_rows_refuses_impossible_sizes(size: int) -> None:
    with pytest.raises(UserError, match=f"{size} images .* expected 0 to 3"):
        balanced_rows(np.array([0, 1, 1]), 2, size, np.random.default_rng(0))


def test_smaller_quotas_draw_a_subset() -> None:
    labels = np.repeat(np.arange(3), 30)
    small, large = (
        rows_by_quota(labels, np.full(3, quota), np.random.default_rng(5)) for quota in (4, 11)
    )
    assert set(small) < set(large)


def test_limit_keeps_order_balance_and_pairs() -> None:
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(4), 25))
    whole = numbered_dataset(labels, 4)
    part = limit(whole, train_limit=42, test_limit=None)
    rows = part.x_train[:, 0, 0, 0].astype(int)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(part.y_train, labels[rows])
    np.testing.assert_array_equal(np.bincount(part.y_train), [11, 11, 10, 10])
    np.testing.assert_array_equal(part.x_test, whole.x_test)
    np.testing.assert_array_equal(limit(whole, 42, 7).x_train, part.x_train)
    np.testing.assert_array_equal(np.bincount(limit(whole, 42, 7).y_test), [2, 2, 2, 1])


def test_limit_beyond_the_split_keeps_all() -> None:
    whole = numbered_dataset(np.array([0, 1, 0]), 2)
    part = limit(whole, 3, 100)
    np.testing.assert_array_equal(part.x_train, whole.x_train)
    np.testing.assert_array_equal(part.y_test, whole.y_test)


@pytest.mark.parametrize("limits", [(0, None), (None, -3)])
def test_limit_below_one_is_refused(limits: tuple[int | None, int | None]) -> None:
    with pytest.raises(UserError, match=r"_limit is (0|-3), expected at least 1"):
        limit(numbered_dataset(np.array([0, 1]), 2), *limits)
