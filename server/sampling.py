"""Every random draw of a run, each a function of the seed and the step alone.

So a resumed run draws the same as an uninterrupted one.
"""

import enum
from collections.abc import Sequence

import numpy as np

from kipper.common.errors import UserError
from kipper.common.labels import balanced_rows

_MAX_HELD_OUT = 5000


class _Stream(enum.IntEnum):
    """Separates the draws of one seed; the numbers must never change."""

    SUPPORT = 0
    TARGET = 1
    VALIDATION = 2
    NOISE = 3
    FROZEN = 4
    ARCHITECTURE = 5


def _generator(stream: _Stream, seed: int, step: int = 0) -> np.random.Generator:
    return np.random.default_rng([stream, seed, step])


def support_rows(
    labels: np.ndarray,
    num_classes: int,
    size: int,
    seed: int,
    class_names: Sequence[str] = (),
    held_out: Sequence[int] = (),
) -> np.ndarray:
    """Rows of the natural support images, the same number of each class, sorted by class.

    Data without classes count as one class, here and below; see `labels.strata`.

    Args:
        labels: the labels of the images to draw from, (N,).
        num_classes: the number of classes of the data set.
        size: number of rows.
        seed: the seed of the run.
        class_names: for messages; by default the classes' numbers.
        held_out: for messages: training images of each class that `labels` do not include.

    Raises:
        UserError: `size` is not a multiple of the number of classes, or a class has too few images.
    """
    if size % num_classes:
        raise UserError(
            f"--support_size is {size}; it must be a multiple of the {num_classes} classes."
        )
    if num_classes == 1 and size > len(labels):
        raise UserError(f"--support_size is {size}, but there are {len(labels)} training images.")
    counts = np.bincount(labels, minlength=num_classes)
    smallest = int(counts.argmin())
    if size // num_classes > counts[smallest]:
        name = class_names[smallest] if class_names else str(smallest)
        besides = held_out[smallest] if len(held_out) else 0
        without = f", without {besides} held out to choose among snapshots" if besides else ""
        raise UserError(
            f"--support_size is {size}, {size // num_classes} for each of {num_classes} classes, "
            f"but class {name!r} has fewer training images: {counts[smallest]}{without}; give "
            f"--support_size={num_classes * counts[smallest]} or less."
        )
    rows = balanced_rows(labels, num_classes, size, _generator(_Stream.SUPPORT, seed))
    return rows[np.argsort(labels[rows], kind="stable")]


def target_rows(
    labels: np.ndarray, num_classes: int, size: int, seed: int, step: int
) -> np.ndarray:
    """Rows of the target batch of a step, balanced by class, without repetition, sorted."""
    size = min(size, len(labels))
    return np.sort(balanced_rows(labels, num_classes, size, _generator(_Stream.TARGET, seed, step)))


def validation_rows(labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """Training rows held out to choose among snapshots: a tenth, at most 5,000, sorted."""
    size = min(_MAX_HELD_OUT, len(labels) // 10)
    return np.sort(balanced_rows(labels, num_classes, size, _generator(_Stream.VALIDATION, seed)))


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal noise, float64, for initial support images (n, h, w, c)."""
    return _generator(_Stream.NOISE, seed).standard_normal(shape)


def frozen_pixels(shape: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    """The pixels of support images (n, h, w, c) that are not learned: bool (n, h, w, 1).

    They are drawn for each image separately; their number is `share` of all, rounded.
    """
    num_images, height, width, _ = shape
    pixels = height * width
    frozen = np.arange(pixels) < round(share * pixels)
    drawn = _generator(_Stream.FROZEN, seed).permuted(np.tile(frozen, (num_images, 1)), axis=1)
    return drawn.reshape(num_images, height, width, 1)


def architecture(number: int, seed: int, step: int) -> int:
    """The index of the architecture of a step, among `number` of them."""
    return int(_generator(_Stream.ARCHITECTURE, seed, step).integers(number))
