"""The data that a user gives: as a data set, by name, or as arrays."""

import dataclasses
import os
import pathlib
import weakref
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from kipper.common.datasets import (
    Dataset,
    dataset_of_arrays,
    float_images,
    load_dataset,
    remember,
)
from kipper.common.errors import UserError

Given: TypeAlias = Dataset | str | os.PathLike[str] | ArrayLike | Sequence[ArrayLike]

_PARTS = ("x_train", "y_train", "x_test", "y_test")
_EXPECTED = "give a data set of kipper.load_data, its name, or x_train, y_train, x_test and y_test."

# Name and data_dir of what `load_data` returned: a run reads those again, and its record says them.
_LOADED: "weakref.WeakKeyDictionary[Dataset, tuple[str, str | None]]" = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class GivenData:
    """A data set as the settings of a run name it.

    Attributes:
        name: the setting `dataset`.
        data_dir: the setting of that name.
        held: the arrays, which must be held as long as a run may read them; None for files.
    """

    name: str
    data_dir: str | None = None
    held: Dataset | None = None


def load_data(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads a data set by its name.

    Args:
        name: digits, mnist5k, mnist, fashion_mnist, cifar10, cifar100, svhn_cropped, npz:FILE or
            folder:PATH[@SIZE].
        data_dir: the folder with the original files of mnist, fashion_mnist, cifar10, cifar100 or
            svhn_cropped; nothing is downloaded.

    Returns:
        The data set: `x_train` and `x_test` are float32 (N, height, width, channels), `y_train` and
        `y_test` classes, int64 (N,) from 0, or targets, float64 (N, k).

    Raises:
        UserError: the name is unknown, or a file is missing, corrupt or of unexpected content.
    """
    folder = None if data_dir is None else str(pathlib.Path(data_dir).expanduser())
    dataset = load_dataset(name, folder)
    _LOADED[dataset] = (name, folder)
    return dataset


def given_data(data: Sequence[Given], data_dir: str | None = None) -> GivenData:
    """The data that positional arguments stand for.

    Args:
        data: one data set, one name, or four arrays, also as one sequence.
        data_dir: for names.

    Raises:
        UserError: they are something else, or arrays do not fit each other.
    """
    match data:
        case (Dataset() as dataset,):
            if dataset in _LOADED:
                return GivenData(*_LOADED[dataset])
            return GivenData(remember(dataset), None, dataset)
        case (str() as name,):
            return GivenData(name, data_dir)
        case (os.PathLike() as path,):
            kind = "folder" if pathlib.Path(path).is_dir() else "npz"
            return GivenData(f"{kind}:{os.fspath(path)}")
        case (list() | tuple() as parts,) if len(parts) == len(_PARTS):
            return given_data(parts)
        case _ if len(data) == len(_PARTS):
            arrays = {name: np.asarray(part) for name, part in zip(_PARTS, data, strict=True)}
            dataset = dataset_of_arrays(arrays, "arrays", "the data")
            return GivenData(remember(dataset), None, dataset)
    kinds = ", ".join(type(each).__name__ for each in data) or "nothing"
    raise UserError(f"The data are {kinds}; {_EXPECTED}")


def given_test_set(images: Given, labels: Given, class_names: Sequence[str]) -> GivenData:
    """A data set to evaluate on: its test part is `images` and `labels`, and so is its other part.

    Raises:
        UserError: as `given_data`.
    """
    names = {"class_names": np.array(class_names)} if class_names else {}
    x, y = np.asarray(images), np.asarray(labels)
    parts = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    dataset = dataset_of_arrays(parts | names, "arrays", "the data")
    return GivenData(remember(dataset), None, dataset)


def given_images(images: ArrayLike) -> np.ndarray:
    """Images as float32 (n, h, w, c), in raw pixels, as those of a data set.

    Raises:
        UserError: they are no images.
    """
    found = float_images(np.asarray(images), "x", "the data")
    if found.ndim != 4:
        raise UserError(
            f"x is of shape {np.shape(images)}; it must be (n, height, width[, channels])."
        )
    return found
