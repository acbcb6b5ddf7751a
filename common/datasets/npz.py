"""Data sets from NumPy .npz files, such as keras's mnist.npz."""

import pathlib

import numpy as np

from kipper.common.array_files import open_npz
from kipper.common.datasets.arrays import PARTS, dataset_of_arrays
from kipper.common.datasets.dataset import Dataset
from kipper.common.datasets.reading import expecting
from kipper.common.errors import UserError


def load_npz(path: pathlib.Path, name: str) -> Dataset:
    """A data set from the arrays x_train, y_train, x_test, y_test and, optionally, class_names.

    Images are (N, H, W, C), (N, C, H, W) or (N, H, W), or rows of numbers (N, features): uint8,
    which is divided by 255, or floating point, which is kept. Labels are classes: integers (N,) or
    (N, 1), strings, booleans, or one-hot rows; or regression targets, floating point (N,) or
    (N, k). Without class_names, integers are numbered up to the largest label.

    Raises:
        UserError: the file is missing or corrupt, or an array is missing or not as above.
    """
    return dataset_of_arrays(_read_arrays(path), name, str(path))


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    names = (*PARTS, "class_names")
    with expecting(path, "a NumPy .npz file"), open_npz(path, names) as arrays:
        shapes = arrays.shapes
        missing = [key for key in PARTS if key not in shapes]
        if missing:
            raise UserError(f"{path} lacks {missing[0]}, expected {', '.join(PARTS)}")
        for part in ("train", "test"):
            # Before millions of images are read.
            images, labels = (shapes[f"{kind}_{part}"][:1] for kind in "xy")
            if images != labels:
                raise UserError(
                    f"{path} ({part}): there are {_count(images)} images and {_count(labels)} "
                    "labels, expected equal numbers"
                )
        return {key: arrays.read(key) for key in names if key in shapes}


def _count(rows: tuple[int, ...]) -> str:
    return str(rows[0]) if rows else "no"
