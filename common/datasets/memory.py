"""Data sets of arrays in memory, by a name made of their content.

A run in this process reads them where they are. Other processes read the file that `keep` writes.
"""

import os
import pathlib
import weakref

import numpy as np

from kipper.common.datasets.dataset import Dataset, dataset_hash
from kipper.common.datasets.npz import load_npz
from kipper.common.errors import UserError
from kipper.common.files import write_npz

PREFIX = "arrays:"
_DIGITS = 16

# Those that something in this process still holds.
_HELD: "weakref.WeakValueDictionary[str, Dataset]" = weakref.WeakValueDictionary()


def remember(dataset: Dataset) -> str:
    """Lets `load_dataset` find the data set while the caller holds it; returns the name to use."""
    name = f"{PREFIX}{dataset_hash(dataset)[:_DIGITS]}"
    _HELD[name] = dataset
    return name


def keep(name: str, folder: str | os.PathLike[str]) -> None:
    """Writes a data set that is remembered, for processes that are given `folder` as data_dir.

    Raises:
        OSError: the folder cannot be written.
    """
    dataset = _HELD[name]
    names = {"class_names": np.array(dataset.class_names)} if dataset.class_names else {}
    parts = ("x_train", "y_train", "x_test", "y_test")
    write_npz(
        _file_of(name, pathlib.Path(folder)),
        {part: getattr(dataset, part) for part in parts} | names,
    )


def load_arrays(name: str, data_dir: str | None) -> Dataset:
    """The data set that was remembered under a name, or kept in `data_dir`.

    Raises:
        UserError: it is in neither place.
    """
    held = _HELD.get(name)
    if held is not None:
        return held
    if data_dir and (path := _file_of(name, pathlib.Path(data_dir))).exists():
        return load_npz(path, name)
    raise UserError(
        f"The data set {name} was given as arrays in Python and is not in a file; give the same "
        "arrays again in Python, or save them and give --dataset=npz:FILE."
    )


def _file_of(name: str, folder: pathlib.Path) -> pathlib.Path:
    return folder / f"{name.removeprefix(PREFIX)}.npz"
