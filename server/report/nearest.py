"""The natural training images most similar to the distilled ones."""

from typing import NamedTuple

import numpy as np

# Rows compared at once: 4096 images of CIFAR-10 take 50 MB.
BLOCK_ROWS = 4096


class Nearest(NamedTuple):
    """For each of n images the most similar of N others.

    Attributes:
        rows: the number of that image, int64 (n,).
        cosines: the cosine of the angle between them, float64 (n,).
    """

    rows: np.ndarray
    cosines: np.ndarray


def nearest_natural(images: np.ndarray, natural: np.ndarray) -> Nearest:
    """The natural image at the smallest angle to each image.

    The angle is used because distilled images have more contrast than natural ones, so that the
    smallest distance would favour images of high contrast. Among images of equal norm the smallest
    angle gives the largest kernel of any fully connected network. Searching with a convolutional
    kernel would cost as much as a step over all training images.

    Args:
        images: (n, h, w, c), preprocessed.
        natural: (N, h, w, c), preprocessed; the first of equally near ones is found.
    """
    wanted = _unit_rows(images)
    rows = np.zeros(len(images), np.int64)
    cosines = np.full(len(images), -np.inf)
    for start in range(0, len(natural), BLOCK_ROWS):
        # By BLAS, whose rounding differs between machines: this is only shown, and enters no
        # result.
        found = wanted @ _unit_rows(natural[start : start + BLOCK_ROWS]).T
        best = found.argmax(1)
        values = found[np.arange(len(images)), best]
        better = values > cosines
        rows[better], cosines[better] = start + best[better], values[better]
    return Nearest(rows, cosines)


def _unit_rows(images: np.ndarray) -> np.ndarray:
    """float32 rows (N, d) of norm 1; images of zeros stay zeros."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
