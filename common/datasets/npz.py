"""Data sets from NumPy .npz files, such as keras's mnist.npz."""

import pathlib
from collections.abc import Mapping

import numpy as np

from kipper.common.array_files import open_npz
from kipper.common.datasets.dataset import Dataset, RawSplit, assemble, numbered_names, unit_pixels
from kipper.common.datasets.reading import expecting
from kipper.common.errors import UserError
from kipper.common.labels import are_classes

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")
# A stray large label must not become millions of class names.
_MAX_CLASSES = 2**16


def load_npz(path: pathlib.Path, name: str) -> Dataset:
    """A data set from the arrays x_train, y_train, x_test, y_test and, optionally, class_names.

    Images are (N, H, W) or (N, H, W, C): uint8, which is divided by 255, or floating point, which
    is kept. Labels are classes, integers (N,) or (N, 1), or regression targets, floating point (N,)
    or (N, k). Without class_names, classes are numbered up to the largest label.

    Raises:
        UserError: the file is missing or corrupt, or an array is missing or not as above.
    """
    return dataset_of_arrays(_read_arrays(path), name, str(path))


def dataset_of_arrays(arrays: Mapping[str, np.ndarray], name: str, source: str) -> Dataset:
    """A data set from arrays in memory as `load_npz` reads them; float32 images are not copied.

    Raises:
        UserError: an array is not as there; the sentence begins with `source`.
    """
    train, test = (_split(arrays, part, source) for part in ("train", "test"))
    return assemble(name, train, test, _class_names(arrays, (train, test), source))


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    names = (*_REQUIRED, "class_names")
    with expecting(path, "a NumPy .npz file"), open_npz(path, names) as arrays:
        shapes = arrays.shapes
        missing = [key for key in _REQUIRED if key not in shapes]
        if missing:
            raise UserError(f"{path} lacks {missing[0]}, expected {', '.join(_REQUIRED)}")
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


def _split(arrays: Mapping[str, np.ndarray], part: str, source: str) -> RawSplit:
    labels = arrays[f"y_{part}"]
    if labels.dtype.kind == "f":
        labels = labels.astype(np.float64)
        labels = labels[:, None] if labels.ndim == 1 else labels
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    return RawSplit(
        float_images(arrays[f"x_{part}"], f"x_{part}", source), labels, f"{source} ({part})"
    )


def float_images(images: np.ndarray, key: str, source: str) -> np.ndarray:
    """Images as float32, with a channel axis; `key` and `source` name them in errors.

    Raises:
        UserError: they are neither uint8 nor finite floating-point numbers.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype == np.uint8:
        return unit_pixels(images)
    if images.dtype.kind != "f":
        raise UserError(f"{source}: {key} is {images.dtype}, expected uint8 or floating point")
    with np.errstate(over="ignore"):
        images = np.ascontiguousarray(images, np.float32)
    unusable = np.flatnonzero(~np.isfinite(images).all(axis=tuple(range(1, images.ndim))))
    if unusable.size:
        others = f" and {unusable.size - 1} more" if unusable.size > 1 else ""
        raise UserError(
            f"{source}: image {unusable[0]} of {key}{others} holds NaN or infinite pixels, "
            "expected finite float32"
        )
    return images


def _class_names(
    arrays: Mapping[str, np.ndarray], splits: tuple[RawSplit, RawSplit], source: str
) -> tuple[str, ...]:
    if not all(are_classes(split.labels) for split in splits):
        if "class_names" in arrays:
            raise UserError(
                f"{source} holds class_names but floating-point targets, expected integers"
            )
        return ()
    if "class_names" not in arrays:
        num_classes = 1 + max(int(split.labels.max()) for split in splits)
        if num_classes > _MAX_CLASSES:
            raise UserError(
                f"{source} holds the label {num_classes - 1}, expected 0 to {_MAX_CLASSES - 1}"
            )
        return numbered_names(num_classes)
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise UserError(
            f"{source}: class_names is {names.dtype} of shape {names.shape}, expected strings (C,)"
        )
    with expecting(source, "a data set with ASCII or Unicode class_names"):
        return tuple(names.astype(str).tolist())
