"""Class-balanced parts of a data set."""

import dataclasses

import numpy as np

from kipper.common.datasets.dataset import Dataset
from kipper.common.errors import UserError
from kipper.common.labels import rows_by_quota, strata

# Fixed, so that every run has the same subset, whatever its seed.
_LIMIT_SEED = 0


def limit(dataset: Dataset, train_limit: int | None, test_limit: int | None) -> Dataset:
    """Keeps a fixed subset of each split, balanced over classes, in order.

    If the number of classes does not divide a limit, the first classes get one image more. None, or
    a limit larger than the split, keeps the whole split.

    Raises:
        UserError: a limit below 1.
    """
    train, test = (
        _limited_rows(*strata(labels, dataset.num_outputs), size, setting)
        for labels, size, setting in (
            (dataset.y_train, train_limit, "train_limit"),
            (dataset.y_test, test_limit, "test_limit"),
        )
    )
    return dataclasses.replace(
        dataset,
        x_train=dataset.x_train[train],
        y_train=dataset.y_train[train],
        x_test=dataset.x_test[test],
        y_test=dataset.y_test[test],
    )


def _limited_rows(
    labels: np.ndarray, num_classes: int, size: int | None, setting: str
) -> np.ndarray | slice:
    if size is not None and size < 1:
        raise UserError(f"{setting} is {size}, expected at least 1")
    if size is None or size >= len(labels):
        return slice(None)
    quotas = np.full(num_classes, size // num_classes)
    quotas[: size % num_classes] += 1
    return np.sort(rows_by_quota(labels, quotas, np.random.default_rng(_LIMIT_SEED)))
