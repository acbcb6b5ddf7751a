"""Labels as regression targets, and class-balanced draws of rows."""

import numpy as np

from kipper.common.errors import UserError


def centred_one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(N,) from 0 to C-1 -> float64 (N, C): one-hot minus 1/C, so that rows sum to zero.

    This is the encoding of KIP (arXiv 2011.00050).

    Raises:
        UserError: a label outside 0..C-1.
    """
    check_label_range(labels, num_classes, "the labels")
    targets = np.full((len(labels), num_classes), -1.0 / num_classes)
    targets[np.arange(len(labels)), labels] += 1.0
    return targets


def target_values(labels: np.ndarray, num_outputs: int) -> np.ndarray:
    """Regression targets: centred one-hot vectors for classes, targets unchanged.

    Labels are integer classes (N,) from 0 to C-1, or floating-point targets (N, C); returns float64
    (N, C).

    Raises:
        UserError: a class outside 0..C-1.
    """
    if are_classes(labels):
        return centred_one_hot(labels, num_outputs)
    return labels.astype(np.float64, copy=False)


def are_classes(labels: np.ndarray) -> bool:
    """Whether labels are classes rather than targets."""
    return labels.dtype.kind in "iu"


def strata(labels: np.ndarray, num_outputs: int) -> tuple[np.ndarray, int]:
    """The groups that draws of rows balance: integers (N,) and their number.

    Each class is a group; all targets are one group.
    """
    if are_classes(labels):
        return labels, num_outputs
    return np.zeros(len(labels), np.int64), 1


def balanced_rows(
    labels: np.ndarray, num_classes: int, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws `size` rows, as evenly over the classes as possible.

    Each class gets size // C rows, and the remainder goes to classes drawn at random. If a class is
    too small, the missing rows are drawn uniformly from the remaining rows of the others. Labels
    are integers (N,) from 0 to C-1; returns distinct row indices int64 (size,) in random order.

    Raises:
        UserError: `size` is negative or larger than N, or a label is outside 0..C-1.
    """
    quotas = np.full(num_classes, size // num_classes)
    quotas[rng.choice(num_classes, size % num_classes, replace=False)] += 1
    return rows_by_quota(labels, quotas, rng)


def rows_by_quota(labels: np.ndarray, quotas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws `quotas[c]` rows of each class c without replacement; see `balanced_rows`.

    For one state of `rng`, smaller quotas draw a subset of what larger ones draw, if every class is
    large enough.

    Raises:
        UserError: the quotas are negative or sum to more than N, or a label is outside 0..C-1.
    """
    size = int(quotas.sum())
    if size > len(labels) or quotas.min() < 0:
        raise UserError(f"{size} images were asked for, expected 0 to {len(labels)}")
    check_label_range(labels, len(quotas), "the labels")
    order = rng.permutation(len(labels))
    taken = _rank_within_class(labels[order], len(quotas)) < quotas[labels[order]]
    rows, left = order[taken], order[~taken]
    # The order of the remaining rows is biased by the sizes of their classes, so the deficit is
    # drawn in a new order.
    filling = rng.choice(left, size - len(rows), replace=False)
    return rng.permutation(np.concatenate([rows, filling]))


def check_label_range(labels: np.ndarray, num_classes: int, source: str) -> None:
    """Raises UserError, with `source` and the label, if a label is outside 0..C-1."""
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise UserError(
            f"{source} hold the label {labels[outside][0]}, expected 0 to {num_classes - 1}; "
            "np.unique(labels, return_inverse=True)[1] numbers classes from 0"
        )


def _rank_within_class(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """For each row, how many earlier rows have the same label; int64 (N,)."""
    grouped = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=num_classes)
    first_of_class = np.cumsum(counts) - counts
    ranks = np.empty(len(labels), np.int64)
    ranks[grouped] = np.arange(len(labels)) - first_of_class[labels[grouped]]
    return ranks
