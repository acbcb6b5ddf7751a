"""The data of a transfer: a distilled set, and images of its data set to test with."""

import dataclasses

import numpy as np

from kipper.common.architecture import Architecture
from kipper.common.datasets import limit
from kipper.common.errors import UserError
from kipper.common.labels import are_classes, balanced_rows
from kipper.common.settings import RunSettings, TransferSettings
from kipper.launch.commands.distilled_file import DistilledFile, kernel_on, read_distilled
from kipper.launch.commands.transfer.learning_rate import IMAGES
from kipper.server import sampling
from kipper.server.evaluation import score
from kipper.server.experiment import Split
from kipper.server.measures import Score


@dataclasses.dataclass(frozen=True)
class TransferData:
    """Data to train and test on; all images are preprocessed, float32.

    Attributes:
        images: distilled (n, h, w, c).
        labels: the labels of the distilled images, (n, C) float64.
        architecture: the architecture of the networks.
        natural: training images that determine the learning rate.
        validation: training images that no run used as targets, for the curve; may be empty.
        test: all test images.
        curve_rows: indices into `test` of the images for the curve.
    """

    images: np.ndarray
    labels: np.ndarray
    architecture: Architecture
    natural: np.ndarray
    validation: Split
    test: Split
    curve_rows: np.ndarray

    @property
    def num_classes(self) -> int:
        return self.labels.shape[1]


def read_file(settings: TransferSettings) -> DistilledFile:
    """The distilled set with its data set.

    Raises:
        UserError: see `read_distilled`; or the data set has no classes.
    """
    file = read_distilled(settings.evaluation)
    if not are_classes(file.dataset.y_train):
        raise UserError(
            f"The data set {file.dataset.name!r} has real-valued targets; transfer is measured on "
            "classes only."
        )
    return file


def read_data(settings: TransferSettings) -> tuple[DistilledFile, TransferData]:
    """The distilled set, and the images to train and test on; raises as `read_file`.

    Validation images are those that a KIP run with the same seed and limit holds out.
    """
    file = read_file(settings)
    dataset = limit(file.dataset, file.run.compute.train_limit, None)
    classes = file.labels.shape[1]
    held_out = sampling.validation_rows(dataset.y_train, classes, file.run.compute.seed)
    validation = held_out[_some(dataset.y_train[held_out], classes, settings.curve_images)]
    natural = held_out if len(held_out) else np.arange(len(dataset.y_train))
    natural = natural[_some(dataset.y_train[natural], classes, IMAGES)]
    return file, TransferData(
        images=file.images.astype(np.float32),
        labels=file.labels,
        architecture=file.run.compute.kernel_spec.architecture,
        natural=file.preprocessing.apply(dataset.x_train[natural]),
        validation=Split(
            file.preprocessing.apply(dataset.x_train[validation]), dataset.y_train[validation]
        ),
        test=Split(file.preprocessing.apply(dataset.x_test), dataset.y_test),
        curve_rows=_some(dataset.y_test, classes, settings.curve_images),
    )


def _some(labels: np.ndarray, num_classes: int, most: int) -> np.ndarray:
    """At most `most` rows, balanced by class, always the same ones; sorted."""
    size = min(most, len(labels))
    return np.sort(balanced_rows(labels, num_classes, size, np.random.default_rng(0)))


@dataclasses.dataclass(frozen=True)
class RegressionAccuracy:
    """Kernel regression on a distilled set; `recorded` if its run measured the accuracy."""

    test_accuracy: float
    architecture: str
    kernel: str
    recorded: bool


def regression_accuracy(file: DistilledFile, test: Split) -> RegressionAccuracy:
    """Test accuracy of the set by kernel regression, that of an infinitely wide network.

    It is the recorded one if the run measured it with the same architecture and test images.
    """
    recorded = file.recorded if file.as_recorded else None
    return RegressionAccuracy(
        test_accuracy=(recorded or score_by(file.run, file, test)).value,
        architecture=file.run.compute.kernel_spec.architecture.title,
        kernel=file.run.compute.kernel,
        recorded=recorded is not None,
    )


def score_by(run: RunSettings, file: DistilledFile, test: Split) -> Score:
    """The score with the kernel of `run`; raises a NumericalError if it cannot be solved."""
    with kernel_on(run, test) as (_, kernel):
        kernel.set_support(file.images.astype(run.compute.kernel_dtype))
        return score(kernel, file.labels, run.compute.ridge, test.key, test.labels)
