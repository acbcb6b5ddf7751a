"""The data set value, and the checks every loader's arrays pass through."""

import dataclasses
import hashlib

import numpy as np

from kipper.common.errors import UserError
from kipper.common.labels import check_label_range

_PIXEL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in a training and a test split.

    Attributes:
        name: what `load_dataset` was asked for.
        x_train: float32 (N, H, W, C), finite.
        y_train: int64 (N,) from 0 to `num_classes` - 1.
        x_test: float32 (M, H, W, C), finite.
        y_test: int64 (M,) from 0 to `num_classes` - 1.
        class_names: one name per label.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Black and white: of the customary ranges the first that all training pixels lie in."""
        lowest, highest = float(self.x_train.min()), float(self.x_train.max())
        for black, white in _PIXEL_RANGES:
            if black <= lowest and highest <= white:
                return black, white
        return lowest, highest


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One split as a loader read it.

    Attributes:
        images: float32 (N, H, W, C).
        labels: any integer dtype, (N,).
        source: the file or files it came from, for error sentences.

    Raises:
        UserError: shapes or dtypes are not the above, or there are no images.
    """

    images: np.ndarray
    labels: np.ndarray
    source: str

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or 0 in self.images.shape[1:]:
            raise UserError(
                f"{self.source}: the images have the shape {self.images.shape}, "
                "expected (images, height, width, channels)"
            )
        if self.labels.ndim != 1 or self.labels.dtype.kind not in "iu":
            raise UserError(
                f"{self.source}: the labels are {self.labels.dtype} of shape "
                f"{self.labels.shape}, expected one integer per image"
            )
        if len(self.images) != len(self.labels):
            raise UserError(
                f"{self.source}: there are {len(self.images)} images and {len(self.labels)} "
                "labels, expected as many of each"
            )
        if len(self.images) == 0:
            raise UserError(f"{self.source}: the split is empty, expected at least one image")


def assemble(name: str, train: Split, test: Split, class_names: tuple[str, ...]) -> Dataset:
    """Joins two splits to a data set.

    Raises:
        UserError: fewer than two classes, a label out of range, or splits of unlike image shape.
    """
    if len(class_names) < 2:
        raise UserError(
            f"{train.source}: the number of classes is {len(class_names)}, expected at least 2"
        )
    for split in (train, test):
        check_label_range(split.labels, len(class_names), f"{split.source}: the labels")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"{test.source}: the test images have the shape {test.images.shape[1:]}, "
            f"expected {train.images.shape[1:]} as in training"
        )
    return Dataset(
        name=name,
        x_train=train.images,
        y_train=train.labels.astype(np.int64),
        x_test=test.images,
        y_test=test.labels.astype(np.int64),
        class_names=class_names,
    )


def dataset_hash(dataset: Dataset) -> str:
    """SHA-256 (64 hexadecimal digits) over shapes, dtypes and bytes of the four arrays."""
    digest = hashlib.sha256()
    for array in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        digest.update(f"{array.shape} {array.dtype.str}\n".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


def unit_pixels(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels of any shape and memory order to C-ordered float32 in [0, 1]."""
    return np.divide(pixels, 255, dtype=np.float32, order="C")


def numbered_names(num_classes: int) -> tuple[str, ...]:
    """Class names "0", "1", ... for data sets that bring none."""
    return tuple(str(label) for label in range(num_classes))
