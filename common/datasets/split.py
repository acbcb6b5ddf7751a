"""Rows of a data set that are set apart for testing."""

import numpy as np

from kipper.common.datasets.classes import is_one_hot
from kipper.common.errors import UserError
from kipper.common.labels import rows_by_quota


def split_rows(labels: np.ndarray, test_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows, int64 in ascending order, drawn with the same share of each class.

    Each class keeps at least one row for training.

    Args:
        labels: (N,) or (N, k), of any kind.
        test_size: the share, if less than 1, or the number of test rows.
        seed: the seed of the draw.

    Raises:
        UserError: nothing would be left for training or for testing.
    """
    count = len(labels)
    wanted = round(test_size * count) if test_size < 1 else int(test_size)
    groups = _groups(labels)
    counts = np.bincount(groups)
    exact = counts * (wanted / max(count, 1))
    quotas = np.floor(exact).astype(int)
    quotas[np.argsort(quotas - exact, kind="stable")[: wanted - quotas.sum()]] += 1
    quotas = np.minimum(quotas, counts - 1)
    if not 0 < wanted < count or not quotas.sum():
        raise UserError(
            f"test_size is {test_size}, but there are {count} images, of which some "
            "must be for training and some for testing"
        )
    test = np.sort(rows_by_quota(groups, quotas, np.random.default_rng(seed)))
    return np.setdiff1d(np.arange(count), test), test


def _groups(labels: np.ndarray) -> np.ndarray:
    """The number of each row's class, (N,); 0 for targets."""
    if labels.dtype.kind == "f" and not is_one_hot(labels):
        return np.zeros(len(labels), np.int64)
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
