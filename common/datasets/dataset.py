"""The data set value, and checks for all loaders."""

import dataclasses
import hashlib

import numpy as np

from kipper.common.errors import UserError
from kipper.common.labels import are_classes, check_label_range

_PIXEL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images with classes or regression targets, in a training and a test split.

    Attributes:
        name: the argument of `load_dataset`.
        x_train: float32 (N, H, W, C), finite.
        y_train: classes, int64 (N,) from 0 to `num_outputs` - 1; or targets, float64
            (N, `num_outputs`), finite.
        x_test: float32 (M, H, W, C), finite.
        y_test: (M,) or (M, `num_outputs`), as `y_train`.
        class_names: one name per class; none for targets.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        what = f"{self.num_outputs} {'classes' if self.has_classes else 'targets'}"
        shape = "x".join(map(str, self.x_train.shape[1:]))
        sizes = f"{len(self.x_train):,} training and {len(self.x_test):,} test images"
        return f"<Dataset {self.name}: {sizes} {shape}, {what}>"

    @property
    def has_classes(self) -> bool:
        """Whether labels are classes rather than targets."""
        return are_classes(self.y_train)

    @property
    def num_outputs(self) -> int:
        """The number of outputs per image: classes, or targets."""
        return len(self.class_names) if self.has_classes else int(self.y_train.shape[1])

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Black and white: the first usual range that contains all training pixels."""
        lowest, highest = float(self.x_train.min()), float(self.x_train.max())
        for black, white in _PIXEL_RANGES:
            if black <= lowest and highest <= white:
                return black, white
        return lowest, highest


@dataclasses.dataclass(frozen=True, eq=False)
class RawSplit:
    """One split, as read by a loader.

    Attributes:
        images: float32 (N, H, W, C).
        labels: classes of any integer dtype, (N,); or targets, float64 (N, at least 1), finite.
        source: its files, for error messages.

    Raises:
        UserError: a shape or dtype is not as above, or there are no images.
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
        labels = self.labels
        are_targets = labels.dtype == np.float64 and labels.ndim == 2 and labels.shape[1] > 0
        if not are_targets and (labels.ndim != 1 or not are_classes(labels)):
            raise UserError(
                f"{self.source}: the labels are {labels.dtype} of shape {labels.shape}, expected "
                "one integer per image, or floating-point targets"
            )
        if are_targets and not np.isfinite(labels).all():
            raise UserError(f"{self.source}: targets are NaN or infinite, expected finite ones")
        if len(self.images) != len(self.labels):
            raise UserError(
                f"{self.source}: there are {len(self.images)} images and {len(self.labels)} "
                "labels, expected equal numbers"
            )
        if len(self.images) == 0:
            raise UserError(f"{self.source}: the split is empty, expected at least one image")


def assemble(name: str, train: RawSplit, test: RawSplit, class_names: tuple[str, ...]) -> Dataset:
    """Joins two splits into a data set; `class_names` is empty for targets.

    Raises:
        UserError: fewer than two classes, a label out of range, or splits that differ in kind of
            labels or shape of images.
    """
    if are_classes(train.labels) != are_classes(test.labels):
        raise UserError(
            f"{test.source}: the labels are {test.labels.dtype}, expected {train.labels.dtype} as "
            "in training: integers for classes in both, or floating point for targets"
        )
    if are_classes(train.labels):
        if len(class_names) < 2:
            raise UserError(
                f"{train.source}: the number of classes is {len(class_names)}, expected at least 2"
            )
        for split in (train, test):
            check_label_range(split.labels, len(class_names), f"{split.source}: the labels")
    elif train.labels.shape[1:] != test.labels.shape[1:]:
        raise UserError(
            f"{test.source}: images have {test.labels.shape[1]} targets each, expected "
            f"{train.labels.shape[1]} as in training"
        )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"{test.source}: the test images have the shape {test.images.shape[1:]}, "
            f"expected {train.images.shape[1:]} as in training"
        )
    return Dataset(
        name=name,
        x_train=train.images,
        y_train=_canonical(train.labels),
        x_test=test.images,
        y_test=_canonical(test.labels),
        class_names=class_names,
    )


def _canonical(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.int64) if are_classes(labels) else labels


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
    """Class names "0", "1", ... for data sets without names."""
    return tuple(str(label) for label in range(num_classes))
