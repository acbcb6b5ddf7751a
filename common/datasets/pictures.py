"""Pixels of pictures that Pillow reads."""

import contextlib
import pathlib
import warnings
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

# Pillow knows many more formats, some of which start programs (EPS starts Ghostscript).
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # PGM is a kind of PPM


@contextlib.contextmanager
def opened_picture(file: pathlib.Path | IO[bytes]) -> Iterator["Image.Image"]:
    """A file's picture, turned as its EXIF says, in mode L, I;16 or RGB; closed at the end.

    Raises:
        ValueError: the file is no picture, has 32 bits a pixel, or more pixels than Pillow's
            MAX_IMAGE_PIXELS (89 million).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            opened = Image.open(file, formats=_FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"it is none of {', '.join(_FORMATS)}") from None
        with opened:
            yield one_of_three_modes(ImageOps.exif_transpose(opened))


def one_of_three_modes(image: "Image.Image") -> "Image.Image":
    """The image as L, I;16 or RGB, transparent pixels white; ValueError for pixels of 32 bits."""
    from PIL import Image

    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, expected 8 or 16")
    if image.mode.startswith("I;16"):
        return image
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert(mode)


def pixels_of(image: "Image.Image") -> np.ndarray:
    """uint8 or uint16 (h, w, 1), or uint8 (h, w, 3), of an image in one of those modes."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    return array.astype(array.dtype.newbyteorder("="), copy=False)
