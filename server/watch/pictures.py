"""The distilled images as one picture."""

import io
from collections.abc import Callable

import numpy as np

from kipper.common.preprocessing import Preprocessing
from kipper.server.figures import tiles
from kipper.server.watch.snapshot import ShownImages

_GAP = 2  # pixels between images
_WIDTH = 1200  # pixels wanted of a row
_MOST_COLUMNS = 20

ToPixels = Callable[[np.ndarray], np.ndarray]


def pixels_of(preprocessing: Preprocessing, limits: tuple[float, float]) -> ToPixels:
    """What makes uint8 pixels (n, h, w, 3) of preprocessed images (n, h, w, c), to look at.

    `limits` are the values shown as black and as white.
    """

    def to_pixels(images: np.ndarray) -> np.ndarray:
        return tiles.as_pixels(preprocessing.invert(images.astype(np.float32)), limits)

    return to_pixels


def picture(shown: ShownImages, to_pixels: ToPixels, most: int = 1000, tile: int = 64) -> bytes:
    """A PNG file of images, enlarged by a whole number: a column a class where classes are alike.

    Of many images the first of each class, or simply the first.

    Args:
        shown: the images.
        to_pixels: see `pixels_of`.
        most: images to show.
        tile: pixels wanted of an image's side.
    """
    from PIL import Image

    order, columns = _order(shown.classes, len(shown.images), most)
    pixels = to_pixels(shown.images[order])
    height, width = pixels.shape[1:3]
    zoom = tiles.zoom_to(max(height, width), min(tile, _WIDTH / columns - _GAP))
    file = io.BytesIO()
    Image.fromarray(tiles.tiled(tiles.enlarged(pixels, zoom), columns, _GAP)).save(file, "PNG")
    return file.getvalue()


def _order(classes: np.ndarray | None, number: int, most: int) -> tuple[np.ndarray, int]:
    """Which images to show in what order, row by row, and how many to a row."""
    if classes is None:
        return np.arange(min(number, most)), min(number, _MOST_COLUMNS // 2)
    counts = np.unique(classes, return_counts=True)[1]
    by_class = np.argsort(classes, kind="stable")
    if len(counts) > _MOST_COLUMNS or counts.min() != counts.max():
        return by_class[:most], min(number, _MOST_COLUMNS)
    rows = by_class.reshape(len(counts), -1).T
    return rows[: max(1, most // len(counts))].reshape(-1), len(counts)
