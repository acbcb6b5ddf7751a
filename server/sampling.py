"""Every random draw of a run, each a function of the seed and the step alone.

So step k never depends on how the steps before it were run, and a resumed run draws what an
uninterrupted one would have drawn.
"""

import enum

import numpy as np

from kipper.common.errors import UserError
from kipper.common.labels import balanced_rows

_MOST_HELD_OUT = 5000


class _Stream(enum.IntEnum):
    """Keeps the draws of one seed apart; the numbers must never change."""

    SUPPORT = 0
    TARGET = 1
    VALIDATION = 2
    NOISE = 3
    FROZEN = 4
    ARCHITECTURE = 5


def _generator(stream: _Stream, seed: int, step: int = 0) -> np.random.Generator:
    return np.random.default_rng([stream, seed, step])


def support_rows(labels: np.ndarray, num_classes: int, size: int, seed: int) -> np.ndarray:
    """Rows of the natural images that start as support, equally many a class, sorted by class.

    Here and below, what has no classes is given as one class; see `labels.strata`.

    Raises:
        UserError: `size` is not a multiple of the classes, or a class has too few images.
    """
    if size % num_classes:
        raise UserError(
            f"--support_size is {size}; it must be a multiple of the {num_classes} classes."
        )
    if num_classes == 1 and size > len(labels):
        raise UserError(f"--support_size is {size}, but there are {len(labels)} training images.")
    if size // num_classes > np.bincount(labels, minlength=num_classes).min():
        raise UserError(
            f"--support_size is {size}, {size // num_classes} for each of {num_classes} classes, "
            "but the smallest class has fewer training images than that."
        )
    rows = balanced_rows(labels, num_classes, size, _generator(_Stream.SUPPORT, seed))
    return rows[np.argsort(labels[rows], kind="stable")]


def target_rows(
    labels: np.ndarray, num_classes: int, size: int, seed: int, step: int
) -> np.ndarray:
    """Rows of the target batch of one step, balanced by class, without repetition."""
    size = min(size, len(labels))
    return np.sort(balanced_rows(labels, num_classes, size, _generator(_Stream.TARGET, seed, step)))


def validation_rows(labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """Training rows held out of distillation to choose among snapshots: a tenth, at most 5,000."""
    size = min(_MOST_HELD_OUT, len(labels) // 10)
    return np.sort(balanced_rows(labels, num_classes, size, _generator(_Stream.VALIDATION, seed)))


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal noise, float64, to start support images (n, h, w, c) from."""
    return _generator(_Stream.NOISE, seed).standard_normal(shape)


def frozen_pixels(shape: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    """Which pixels of support images (n, h, w, c) are not learned: bool (n, h, w, 1).

    In each image the same number, `share` of all to the nearest whole pixel, drawn for each anew.
    """
    num_images, height, width, _ = shape
    pixels = height * width
    frozen = np.arange(pixels) < round(share * pixels)
    drawn = _generator(_Stream.FROZEN, seed).permuted(np.tile(frozen, (num_images, 1)), axis=1)
    return drawn.reshape(num_images, height, width, 1)


def architecture(number: int, seed: int, step: int) -> int:
    """Which of so many architectures one step is made with."""
    return int(_generator(_Stream.ARCHITECTURE, seed, step).integers(number))
