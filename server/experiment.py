"""A data set prepared for a run: limited, split and preprocessed, deterministically."""

import dataclasses
import functools

import numpy as np

from kipper.common import linalg
from kipper.common.architecture import check_image_side
from kipper.common.datasets import Dataset, limit
from kipper.common.datasets.dataset import numbered_names
from kipper.common.errors import UserError
from kipper.common.labels import strata, target_values
from kipper.common.preprocessing import Preprocessing, fit_preprocessing
from kipper.common.settings import ComputeSettings
from kipper.common.wire import content_key
from kipper.server import sampling
from kipper.server.algorithms import algorithm_of


@dataclasses.dataclass(frozen=True)
class Split:
    """Preprocessed float32 images (n, h, w, c) with integer classes (n,) or targets (n, C)."""

    images: np.ndarray
    labels: np.ndarray

    @functools.cached_property
    def key(self) -> str:
        """The key of the images as a row set; see `content_key`."""
        return content_key(self.images)


@dataclasses.dataclass(frozen=True)
class Augmenting:
    """The data that workers need to augment target images.

    Attributes:
        augment: see `parse_augmentation`.
        raw: training images (N, h, w, c) float32, in raw pixel space.
        index: (t,) rows of `raw` that are the target images.
        preprocessing: the preprocessing of the augmented images.
    """

    augment: str
    raw: np.ndarray
    index: np.ndarray
    preprocessing: Preprocessing

    @functools.cached_property
    def key(self) -> str:
        """The key of the raw images as a row set."""
        return content_key(self.raw)

    @functools.cached_property
    def whitening(self) -> dict[str, np.ndarray]:
        """The ZCA matrix (d, 1, 1, d) as a row set by key; empty for channel standardisation."""
        matrix = self.preprocessing.arrays().get("whitening")
        if matrix is None:
            return {}
        rows = matrix.reshape(len(matrix), 1, 1, -1)
        return {content_key(rows): rows}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The data of a run.

    Attributes:
        target: training images that the loss is taken over.
        test: images that are only evaluated.
        validation: training images held out of `target` to compare snapshots; may be empty.
        support: natural images (n, h, w, c) float32, rows of `target` sorted by class.
        support_labels: their labels, as in `target`.
        class_names: empty for targets of a regression.
        target_mean: (C,) mean over `target` that was subtracted from targets; None for classes.
        augmenting: None if target images are not augmented.
        pixel_range: the raw pixel values of black and white.
    """

    target: Split
    test: Split
    validation: Split
    support: np.ndarray
    support_labels: np.ndarray
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    target_mean: np.ndarray | None = None
    augmenting: Augmenting | None = None
    pixel_range: tuple[float, float] = (0.0, 1.0)

    @property
    def num_outputs(self) -> int:
        """The number C of values predicted for an image."""
        return len(self.class_names) if self.target_mean is None else len(self.target_mean)

    def values(self, labels: np.ndarray) -> np.ndarray:
        """The values (n, C) float64 that labels of a split stand for in the regression."""
        return target_values(labels, self.num_outputs)

    def row_sets(self, with_validation: bool) -> dict[str, np.ndarray]:
        """The row sets of workers: images by key."""
        splits = [self.target, self.test, *([self.validation] if with_validation else [])]
        sets = {split.key: split.images for split in splits}
        if self.augmenting is not None:
            sets |= {self.augmenting.key: self.augmenting.raw, **self.augmenting.whitening}
        return sets


def centred(labels: np.ndarray, target_mean: np.ndarray | None) -> np.ndarray:
    """Targets of a regression minus their mean; classes, whose mean is None, unchanged."""
    return labels if target_mean is None else labels - target_mean


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a limited data set that a run uses; those of `support` are rows of `target`."""

    dataset: Dataset
    target: np.ndarray
    validation: np.ndarray
    support: np.ndarray


def choose_rows(settings: ComputeSettings, dataset: Dataset) -> Rows:
    """Limits and splits a data set, without looking at pixels.

    Raises:
        UserError: the settings do not fit the data set.
    """
    dataset = limit(dataset, settings.train_limit, settings.test_limit)
    height, width = dataset.x_train.shape[1:3]
    for spec in settings.kernel_specs:
        check_image_side(spec.architecture, height, width)
    _check_no_class_is_empty(dataset)
    every = np.arange(len(dataset.y_train))
    validation = every[:0]
    if algorithm_of(settings).holds_out_validation:
        balanced = strata(dataset.y_train, dataset.num_outputs)
        validation = sampling.validation_rows(*balanced, settings.seed)
    target = np.setdiff1d(every, validation)
    balanced = strata(dataset.y_train[target], dataset.num_outputs)
    held_out: list[int] = []
    if dataset.has_classes:
        counts = np.bincount(dataset.y_train[validation], minlength=dataset.num_classes)
        held_out = counts.tolist()
    support = sampling.support_rows(
        *balanced, settings.support_size, settings.seed, dataset.class_names, held_out
    )
    return Rows(dataset, target, validation, support)


def _check_no_class_is_empty(dataset: Dataset) -> None:
    """Raises a UserError for a class without training images, which cannot be distilled."""
    if not dataset.has_classes:
        return
    counts = np.bincount(dataset.y_train, minlength=dataset.num_classes)
    empty = np.flatnonzero(counts == 0)
    if not empty.size:
        return
    first, last = int(empty[0]), dataset.num_classes - 1
    if dataset.class_names == numbered_names(dataset.num_classes):
        advice = "subtract 1 from all labels" if first == 0 else "leave no number out"
        raise UserError(
            f"Class {first} has no training images, though labels go up to {last}: labels must "
            f"number the classes from 0; {advice}."
        )
    raise UserError(
        f"Class {dataset.class_names[first]!r} has no training images; every class needs one."
    )


def prepare(settings: ComputeSettings, dataset: Dataset) -> Experiment:
    """Limits, splits and preprocesses a data set by the statistics of its target images.

    Raises:
        UserError: the settings do not fit the data set.
    """
    rows = choose_rows(settings, dataset)
    x_target = rows.dataset.x_train[rows.target]
    preprocessing = fit_preprocessing(settings.preprocess, x_target)

    x_train, y_train = rows.dataset.x_train, rows.dataset.y_train
    target_mean = None if dataset.has_classes else linalg.column_means(y_train[rows.target])

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split(preprocessing.apply(images), centred(labels, target_mean))

    target = split(x_target, y_train[rows.target])
    augment, augmenting = algorithm_of(settings).augment, None
    if augment is not None:
        augmenting = Augmenting(augment, x_train, rows.target, preprocessing)
    return Experiment(
        target=target,
        test=split(rows.dataset.x_test, rows.dataset.y_test),
        validation=split(x_train[rows.validation], y_train[rows.validation]),
        support=target.images[rows.support],
        support_labels=target.labels[rows.support],
        preprocessing=preprocessing,
        class_names=dataset.class_names,
        target_mean=target_mean,
        augmenting=augmenting,
        pixel_range=dataset.pixel_range,
    )
