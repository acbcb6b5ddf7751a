"""Labels of any kind as classes from 0, or as targets of a regression."""

import numpy as np

from kipper.common.datasets.dataset import numbered_names
from kipper.common.datasets.reading import expecting
from kipper.common.errors import UserError
from kipper.common.labels import are_classes

# A stray large label must not become millions of class names.
_MAX_CLASSES = 2**16


def like_labels(
    train: np.ndarray, test: np.ndarray, class_names: np.ndarray | None, source: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], list[str]]:
    """Training and test labels as integer classes (N,), or as targets, float64 (N, k).

    Strings are classes in the order of `class_names`, else in alphabetical order. Booleans are two
    classes. A row with a single 1 among zeros is the class of its position. Other integers stay as
    they are, and other floating-point numbers are targets. Anything else stays as it is.

    Args:
        train: (N,) or (N, k).
        test: as `train`.
        class_names: (C,) strings, or None.
        source: begins errors and notices.

    Returns:
        Both, the class names, () of targets, and sentences that the user should read.

    Raises:
        UserError: a string is not in `class_names`, or these do not fit the labels.
    """
    names = None if class_names is None else _strings(class_names, source)
    both = [_one_column(each) for each in (train, test)]
    notices: list[str] = []
    if all(each.dtype.kind in "US" and each.ndim == 1 for each in both):
        return *_of_strings(both[0], both[1], names, source), notices
    if all(each.dtype.kind == "b" and each.ndim == 1 for each in both):
        names = names or ("False", "True")
        return both[0].astype(np.int64), both[1].astype(np.int64), names, notices
    if all(map(is_one_hot, both)) and both[0].shape[1] == both[1].shape[1]:
        if both[0].dtype.kind == "f":
            notices.append(
                f"{source}: y_train is one-hot, so it is taken as {both[0].shape[1]} classes, and "
                "not as targets of a regression."
            )
        names = names or numbered_names(both[0].shape[1])
        both = [each.argmax(axis=1) for each in both]
    elif all(map(_is_whole, both)):
        numbers = "y_train.astype(int)" if _has_no_sign(both[0]) else "(y_train > 0).astype(int)"
        notices.append(
            f"{source}: y_train is {both[0].dtype}, so this is a regression; its values are whole "
            f"numbers; for classes give integers, such as {numbers}."
        )
    both = [_as_targets(each) if each.dtype.kind == "f" else each for each in both]
    return both[0], both[1], _names(both, names, source), notices


def is_one_hot(labels: np.ndarray) -> bool:
    """Whether labels are rows (N, at least 2) with a single 1, or True, among zeros."""
    if (
        labels.ndim != 2
        or labels.shape[1] < 2
        or not len(labels)
        or labels.dtype.kind not in "biuf"
    ):
        return False
    ones = labels == 1
    return bool((ones.sum(axis=1) == 1).all() and (ones | (labels == 0)).all())


def _one_column(labels: np.ndarray) -> np.ndarray:
    """Classes (N,) of (N, 1)."""
    is_column = labels.ndim == 2 and labels.shape[1] == 1
    return labels[:, 0] if is_column and labels.dtype.kind != "f" else labels


def _as_targets(labels: np.ndarray) -> np.ndarray:
    labels = labels.astype(np.float64)
    return labels[:, None] if labels.ndim == 1 else labels


def _is_whole(labels: np.ndarray) -> bool:
    """Whether labels are one float per image, each the possible number of a class, or -1 and 1."""
    one_each = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if labels.dtype.kind != "f" or not one_each or not labels.size:
        return False
    with np.errstate(invalid="ignore"):
        whole = bool((labels == np.rint(labels)).all())
    return whole and (_has_no_sign(labels) or bool((np.abs(labels) == 1).all()))


def _has_no_sign(labels: np.ndarray) -> bool:
    return bool((labels >= 0).all())


def _of_strings(
    train: np.ndarray, test: np.ndarray, names: tuple[str, ...] | None, source: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    words = [np.array(_strings(each, source)) for each in (train, test)]
    names = names or tuple(np.unique(np.concatenate(words)).tolist())
    place = {name: i for i, name in enumerate(names)}
    if unknown := sorted({*words[0].tolist(), *words[1].tolist()} - place.keys()):
        raise UserError(
            f"{source} holds the label {unknown[0]!r}, expected one of class_names: "
            f"{', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
        )
    numbers = [np.array([place[word] for word in each.tolist()], np.int64) for each in words]
    return numbers[0], numbers[1], names


def _strings(array: np.ndarray, source: str) -> tuple[str, ...]:
    with expecting(source, "a data set with ASCII or Unicode class_names"):
        if array.ndim != 1 or array.dtype.kind not in "US":
            raise UserError(
                f"{source}: class_names is {array.dtype} of shape {array.shape}, expected strings "
                "(C,)"
            )
        return tuple(array.astype(str).tolist())


def _names(labels: list[np.ndarray], names: tuple[str, ...] | None, source: str) -> tuple[str, ...]:
    """The class names given, else numbers up to the largest label; () for targets."""
    if not all(are_classes(each) for each in labels):
        if names is not None:
            raise UserError(
                f"{source} holds class_names but floating-point targets, expected integers"
            )
        return ()
    num_classes = 1 + max((int(each.max()) for each in labels if each.size), default=0)
    if names is not None:
        if num_classes > len(names):
            raise UserError(
                f"{source}: the labels go up to {num_classes - 1}, but class_names has "
                f"{len(names)} names, expected one for each class from 0 on"
            )
        return names
    if num_classes > _MAX_CLASSES:
        raise UserError(
            f"{source} holds the label {num_classes - 1}, expected 0 to {_MAX_CLASSES - 1}"
        )
    return numbered_names(num_classes)
