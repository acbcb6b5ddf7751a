"""Draws the distilled images as one picture."""

import io
from collections.abc import Callable

import numpy as np

from kipper.common.preprocessing import Preprocessing
from kipper.server.figures import tiles
from kipper.server.watch.run_view import ShownImages

_GAP = 2  # pixels between images
_WIDTH = 1200  # largest width in pixels, except for images that are not enlarged
_MAX_COLUMNS = 20

ToPixels = Callable[[np.ndarray], np.ndarray]


def pixels_of(preprocessing: Preprocessing, limits: tuple[float, float]) -> ToPixels:
    """A function from preprocessed images (n, h, w, c) to uint8 pixels (n, h, w, 3).

    `limits` are the values shown as black and as white.
    """

    def to_pixels(images: np.ndarray) -> np.ndarray:
        return tiles.as_pixels(preprocessing.invert(images.astype(np.float32)), limits)

    return to_pixels


def picture(shown: ShownImages, to_pixels: ToPixels, most: int = 1000, tile: int = 64) -> bytes:
    """A PNG file of images, enlarged by a whole factor; a column per class if classes are equal.

    Args:
        shown: the images.
        to_pixels: from `pixels_of`.
        most: number of images to show; the first ones, of each class if classes are equal.
        tile: desired side of an image in pixels.
    """
    from PIL import Image

    order, columns = _order(shown.classes, len(shown.images), most)
    pixels = to_pixels(shown.images[order])
    height, width = pixels.shape[1:3]
    zoom = tiles.zoom_to(max(height, width), min(tile, _WIDTH / columns - _GAP))
    file = io.BytesIO()
    Image.fromarray(tiles.tiled(tiles.enlarged(pixels, zoom), columns, _GAP)).save(file, "PNG")
    return file.getvalue()


def has_column_per_class(classes: np.ndarray) -> bool:
    """Whether a picture of images of classes (n,) has a column for each: equal, and not many."""
    counts = np.unique(classes, return_counts=True)[1]
    return len(counts) <= _MAX_COLUMNS and counts.min() == counts.max()


def _order(classes: np.ndarray | None, number: int, most: int) -> tuple[np.ndarray, int]:
    """Indices of the images to show, row by row, and the number of columns."""
    if classes is None:
        return np.arange(min(number, most)), min(number, _MAX_COLUMNS // 2)
    by_class = np.argsort(classes, kind="stable")
    if not has_column_per_class(classes):
        return by_class[:most], min(number, _MAX_COLUMNS)
    columns = len(np.unique(classes))
    rows = by_class.reshape(columns, -1).T
    return rows[: max(1, most // columns)].reshape(-1), columns
