"""Figures for dark pages: colours keep their hue and turn light where they were dark."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import FigureImage
from PIL import Image

from kipper.server.figures.style import PICTURE

_PAPER = 0x16  # the grey of a dark page, as in report/base.css
# The grey in place of each: white becomes the paper.
_SCALE = np.round(_PAPER + (255 - _PAPER) / 255 * np.arange(256)).astype(np.uint8)


def dark_png(figure: Figure) -> bytes:
    """The figure, which `style.png` has drawn, as PNG for a dark page; pictures in it stay."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    shown = darkened(drawn)
    for picture in figure.images:
        if isinstance(picture, FigureImage) and picture.get_gid() == PICTURE:
            pixels = np.asarray(picture.get_array())
            top, left = len(drawn) - round(picture.oy) - len(pixels), round(picture.ox)
            place = slice(top, top + len(pixels)), slice(left, left + pixels.shape[1])
            opaque = pixels[..., 3:] == 255
            shown[place] = np.where(opaque, drawn[place], shown[place])
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG")
    return file.getvalue()


def darkened(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels (h, w, 3) of a white page, with their lightness turned over."""
    extremes = pixels.max(-1, keepdims=True), pixels.min(-1, keepdims=True)
    return _SCALE[pixels.astype(np.int16) + 255 - extremes[0] - extremes[1]]
