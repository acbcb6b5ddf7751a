"""Figures as pixels, and images found in them."""

import io

import matplotlib.image
import numpy as np
from matplotlib.figure import Figure

from kipper.server.figures import style


def pixels_of(figure: Figure) -> np.ndarray:
    """The figure's PNG as pixels, uint8 (height, width, 3)."""
    png = style.png(figure)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    found = matplotlib.image.imread(io.BytesIO(png), format="png")
    return np.round(255 * found[..., :3]).astype(np.uint8)


def places_of(tile: np.ndarray, page: np.ndarray) -> list[tuple[int, int]]:
    """Every (top, left) at which the page shows exactly this uint8 tile (h, w, 3)."""
    height, width, _ = tile.shape
    if height > len(page) or width > page.shape[1]:
        return []
    numbered, corners = _numbered(page), _numbered(tile[[0, -1], [0, -1]])
    down, across = len(page) - height + 1, page.shape[1] - width + 1
    fits = numbered[:down, :across] == corners[0]
    fits &= numbered[height - 1 :, width - 1 :] == corners[1]
    return [
        (int(top), int(left))
        for top, left in np.argwhere(fits)
        if np.array_equal(page[top : top + height, left : left + width], tile)
    ]


def _numbered(colours: np.ndarray) -> np.ndarray:
    """Each colour (..., 3) as one number."""
    return colours.astype(np.int32) @ np.array([65536, 256, 1], np.int32)


def shows(colour: str, page: np.ndarray) -> int:
    """The number of pixels of the page in this colour, "#rrggbb"."""
    return int((page == np.array(list(bytes.fromhex(colour[1:])), np.uint8)).all(-1).sum())


def cut_off(figure: Figure) -> list[str]:
    """The texts of a figure of which a part lies outside of its page; an axis's ticks as one."""
    figure.canvas.draw()
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    boxes = {text.get_text(): text.get_window_extent() for text in texts if text.get_text()}
    for number, axes in enumerate(figure.axes):
        for axis in (axes.xaxis, axes.yaxis):
            box = axis.get_tightbbox()
            if box is not None:
                boxes[f"{axis.axis_name} axis {number}"] = box
    page = figure.bbox.padded(1)
    return [
        name
        for name, box in boxes.items()
        if not (page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1))
    ]
