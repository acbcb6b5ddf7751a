"""A data set made ready for a run: limited, split, preprocessed; the same wherever it is made."""

import dataclasses
import functools

import numpy as np

from kipper.common.architecture import check_image_side
from kipper.common.datasets import Dataset, limit
from kipper.common.labels import strata, target_values
from kipper.common.preprocessing import Preprocessing, fit_preprocessing
from kipper.common.settings import RunSettings
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
        """Under which the images are resident on workers; see `content_key`."""
        return content_key(self.images)


@dataclasses.dataclass(frozen=True)
class Augmenting:
    """What workers make augmented target images of.

    Attributes:
        augment: how, as `parse_augmentation` takes it.
        raw: training images (N, h, w, c) float32, in raw pixel space.
        index: (t,) which of them the target images are.
        preprocessing: to be applied to what was augmented.
    """

    augment: str
    raw: np.ndarray
    index: np.ndarray
    preprocessing: Preprocessing

    @functools.cached_property
    def key(self) -> str:
        """Under which raw images are resident on workers."""
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
    """What a run works on.

    Attributes:
        target: training images that the loss is taken over.
        test: images that are only ever evaluated.
        validation: training images held out of `target`, by which snapshots are compared; empty
            for Label Solve, which takes the whole training set as target.
        support: the natural images (n, h, w, c) float32 to start from, rows of `target`, sorted
            by class.
        support_labels: their labels, as in `target`.
        class_names: none for targets of a regression.
        target_mean: what was subtracted from such targets, (C,): their mean over `target`.
        augmenting: None if target images are used as they are.
        pixel_range: the raw pixels that are black and white.
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
        """How many numbers are predicted of an image: C."""
        return len(self.class_names) if self.target_mean is None else len(self.target_mean)

    def values(self, labels: np.ndarray) -> np.ndarray:
        """What is regressed on, (n, C) float64, of labels of a split."""
        return target_values(labels, self.num_outputs)

    def row_sets(self, with_validation: bool) -> dict[str, np.ndarray]:
        """What stays resident on workers: images by key."""
        splits = [self.target, self.test, *([self.validation] if with_validation else [])]
        sets = {split.key: split.images for split in splits}
        if self.augmenting is not None:
            sets |= {self.augmenting.key: self.augmenting.raw, **self.augmenting.whitening}
        return sets


def centred(labels: np.ndarray, target_mean: np.ndarray | None) -> np.ndarray:
    """Targets of a regression without their mean; classes as they are, for which it is None."""
    return labels if target_mean is None else labels - target_mean


@dataclasses.dataclass(frozen=True)
class Rows:
    """Which rows of a limited data set a run uses for what."""

    dataset: Dataset
    target: np.ndarray
    validation: np.ndarray
    support: np.ndarray  # indices into `target`


def choose_rows(settings: RunSettings, dataset: Dataset) -> Rows:
    """Limits and splits a data set, without touching pixels.

    Raises:
        UserError: the settings do not fit the data set.
    """
    dataset = limit(dataset, settings.train_limit, settings.test_limit)
    height, width = dataset.x_train.shape[1:3]
    for spec in settings.kernel_specs:
        check_image_side(spec.architecture, height, width)
    every = np.arange(len(dataset.y_train))
    validation = every[:0]
    if algorithm_of(settings).holds_out_validation:
        balanced = strata(dataset.y_train, dataset.num_outputs)
        validation = sampling.validation_rows(*balanced, settings.seed)
    target = np.setdiff1d(every, validation)
    balanced = strata(dataset.y_train[target], dataset.num_outputs)
    support = sampling.support_rows(*balanced, settings.support_size, settings.seed)
    return Rows(dataset, target, validation, support)


def prepare(settings: RunSettings, dataset: Dataset) -> Experiment:
    """Splits and preprocesses; statistics are those of the target images, and of their targets.

    Raises:
        UserError: the settings do not fit the data set.
    """
    rows = choose_rows(settings, dataset)
    x_target = rows.dataset.x_train[rows.target]
    preprocessing = fit_preprocessing(settings.preprocess, x_target)

    x_train, y_train = rows.dataset.x_train, rows.dataset.y_train
    target_mean = None if dataset.has_classes else y_train[rows.target].mean(axis=0)

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
