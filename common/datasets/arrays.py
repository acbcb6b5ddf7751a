"""Data sets of arrays in memory."""

from collections.abc import Mapping

import numpy as np

from kipper.common.datasets.classes import like_labels
from kipper.common.datasets.dataset import Dataset, RawSplit, assemble
from kipper.common.datasets.pixels import like_images
from kipper.common.notices import notice

PARTS = ("x_train", "y_train", "x_test", "y_test")


def dataset_of_arrays(arrays: Mapping[str, np.ndarray], name: str, source: str) -> Dataset:
    """A data set from arrays x_train, y_train, x_test, y_test and, optionally, class_names.

    Float32 images with channels last are not copied. A `DataWarning` says what is not taken
    literally.

    Args:
        arrays: images as for `like_images`, labels as for `like_labels`.
        name: the name of the data set.
        source: begins errors and warnings.

    Raises:
        UserError: an array is not as described there, or arrays do not fit each other.
    """
    x_train, x_test, of_images = like_images(arrays["x_train"], arrays["x_test"], source)
    y_train, y_test, class_names, of_labels = like_labels(
        arrays["y_train"], arrays["y_test"], arrays.get("class_names"), source
    )
    train = RawSplit(x_train, y_train, f"{source} (train)")
    test = RawSplit(x_test, y_test, f"{source} (test)")
    dataset = assemble(name, train, test, class_names)
    for sentence in (*of_images, *of_labels):
        notice(sentence)
    return dataset
