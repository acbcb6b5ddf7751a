"""SVHN's cropped digits, from the .mat files at http://ufldl.stanford.edu/housenumbers/."""

import math
import pathlib

import numpy as np

from kipper.common.datasets.dataset import Dataset, RawSplit, assemble, numbered_names, unit_pixels
from kipper.common.datasets.mat import open_mat
from kipper.common.datasets.reading import expecting, find_folder
from kipper.common.errors import UserError


def load_svhn_cropped(data_dir: pathlib.Path) -> Dataset:
    """SVHN, 32x32x3, from `data_dir`/svhn_cropped or `data_dir`; ignores the "extra" images."""
    name = "svhn_cropped"
    folder = find_folder(name, data_dir, [name], ["train_32x32.mat"])
    train = _read_split(folder / "train_32x32.mat")
    test = _read_split(folder / "test_32x32.mat")
    return assemble(name, train, test, numbered_names(10))


def _read_split(path: pathlib.Path) -> RawSplit:
    with expecting(path, "a MATLAB file"):
        # Names, shapes and types only: a compressed variable may be a thousand times as large.
        found = open_mat(path, ("X", "y"))
    if found.keys() != {"X", "y"}:
        raise UserError(f"{path} lacks a variable, expected X and y")
    pixel_shape, label_shape, pixel_type = found["X"].shape, found["y"].shape, found["X"].dtype
    if pixel_type != np.uint8 or len(pixel_shape) != 4 or pixel_shape[:3] != (32, 32, 3):
        raise UserError(
            f"{path} holds {pixel_type} images of shape {pixel_shape}, "
            "expected uint8 (32, 32, 3, images)"
        )
    if math.prod(label_shape) != pixel_shape[3]:
        raise UserError(
            f"{path} holds {pixel_shape[3]} images and {math.prod(label_shape)} labels, "
            "expected equal numbers"
        )
    with expecting(path, "a MATLAB file"):
        pixels, labels = found["X"].read(), found["y"].read().reshape(-1)
    if not np.isin(labels, np.arange(1, 11)).all():
        raise UserError(f"{path} holds labels other than 1 to 10, expected 10 for the digit 0")
    # MATLAB saves labels as doubles; the published ones are uint8.
    digits = labels.astype(np.int64) % 10
    return RawSplit(unit_pixels(pixels.transpose(3, 0, 1, 2)), digits, str(path))
