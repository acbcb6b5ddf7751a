"""`kipper.Distiller`: an estimator for scikit-learn."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from kipper.common.datasets import dataset_of_arrays
from kipper.common.errors import UserError
from kipper.common.settings import DistillSettings, ExecutionSettings
from kipper.common.settings.values import keyword_fields
from kipper.launch.interface.array_likes import Tensor, image_array, is_picture
from kipper.launch.interface.result import Result
from kipper.launch.interface.runs import distill
from kipper.launch.interface.signatures import takes_settings
from kipper.server import sampling

_OWN = ("workdir", "dataset", "data_dir", "train_limit", "test_limit", "dashboard")
_CLASSES = (DistillSettings, ExecutionSettings)
# The run scores its steps on so many of the training images, because it does not see the images
# that scikit-learn holds out.
_SCORED = 100
_SIZE = 10  # of the support, by default, if that is a multiple of the number of classes


class Distiller(ClassifierMixin, BaseEstimator):
    """A classifier that predicts by kernel ridge regression from a distilled training set.

    Attributes:
        result_: the `Result`; its scores are on training images.
        classes_: the C classes, sorted.
        n_features_in_: the size of the second axis of the images that `fit` saw.
    """

    result_: Result
    classes_: np.ndarray
    n_features_in_: int

    @takes_settings(*_CLASSES, without=_OWN)
    def __init__(
        self,
        *,
        image_shape: tuple[int, ...] | None = None,
        support_size: int | None = None,
        verbose: bool = False,
        **settings: Any,
    ):
        """Sets the parameters, which `fit` checks.

        Args:
            image_shape: (height, width[, channels]) of images that come as rows of numbers, as in a
                pipeline; None takes rows as they are, for fully connected architectures.
            support_size: number of distilled images, a multiple of the number of classes; None: 10,
                or the multiple next below, and at least one of each class.
            verbose: as for `kipper.distill`.
            **settings: see below.
        """
        self.image_shape = image_shape
        self.support_size = support_size
        self.verbose = verbose
        for field in keyword_fields(*_CLASSES, without=(*_OWN, "support_size")):
            setattr(self, field.name, settings.pop(field.name, field.default))
        if settings:
            raise TypeError(f"Distiller has no parameter {next(iter(settings))!r}.")

    def fit(self, X: ArrayLike, y: ArrayLike) -> "Distiller":
        """Distills a training set.

        Args:
            X: images (N, h, w[, c]), or rows of numbers (N, features); also pictures of Pillow and
                tensors of torch. uint8 is divided by 255.
            y: (N,) classes of any kind.

        Returns:
            The estimator itself.

        Raises:
            UserError: a parameter cannot be used, or the images or classes are too few.
            ValueError: as scikit-learn's, of arrays that no estimator can use.
        """
        given, classes = validate_data(self, _array(X), y, allow_nd=True)
        check_classification_targets(classes)
        self.classes_, labels = np.unique(classes, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("The training set has one class; a classifier needs at least two.")
        images = self._images(given)
        names = [field.name for field in keyword_fields(*_CLASSES, without=_OWN)]
        values = {name: getattr(self, name) for name in names}
        values["support_size"] = self._support_size(labels)
        few = slice(0, _SCORED)
        arrays = {
            "x_train": images,
            "y_train": labels,
            "x_test": images[few],
            "y_test": labels[few],
            "class_names": self.classes_.astype(str),
        }
        data = dataset_of_arrays(arrays, "arrays", "the data")
        self.result_ = distill(data, verbose=self.verbose, dashboard="none", **values)
        return self

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """The predicted value of each class, (N, C); of two classes the difference, (N,)."""
        check_is_fitted(self)
        given = validate_data(self, _array(X), reset=False, allow_nd=True)
        values = self.result_.decision_values(self._images(given))
        return values[:, 1] - values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The class (N,) with the largest value."""
        values = self.decision_function(X)
        index = values > 0 if values.ndim == 1 else values.argmax(axis=1)
        return self.classes_[np.asarray(index, int)]

    def _images(self, given: np.ndarray) -> np.ndarray:
        """(N, h, w[, c]) of numbers that kernels take."""
        images = (
            given if given.dtype.kind == "f" or given.dtype == np.uint8 else given.astype(float)
        )
        if images.ndim > 2:
            return images
        shape = self.image_shape or (1, images.shape[1], 1)
        if images.shape[1] != np.prod(shape):
            raise UserError(
                f"image_shape is {shape}, but a row has {images.shape[1]} numbers; it must be the "
                "(height, width[, channels]) of an image."
            )
        return images.reshape(len(images), *shape)

    def _support_size(self, labels: np.ndarray) -> int:
        if self.support_size is not None:
            return self.support_size
        count = len(self.classes_)
        held_out = sampling.validation_rows(labels, count, self.seed)
        left = np.bincount(np.delete(labels, held_out), minlength=count).min()
        return count * max(1, min(_SIZE // count, int(left)))


def _array(images: ArrayLike) -> ArrayLike:
    """Pictures and tensors as an array, which scikit-learn does not make of them."""
    is_list_of_pictures = isinstance(images, list) and images and is_picture(images[0])
    if is_list_of_pictures or isinstance(images, Tensor):
        return image_array(images, "X")
    return images
