"""What became of labels: of a few images, and on the whole."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kipper.server.figures import style, tiles
from kipper.server.figures.style import LINE, Page

_MARGIN = 16
_TILE = 72  # pixels wanted of a tile's side
_MOST_SAMPLES = 10
_MOST_NAMED = 20
_BARS = 260  # pixels across the bars of one image
_ROW = 96  # pixels from one image to the next
_HEAT = 300  # pixels wanted of the covariance's side


@style.styled
def labels_figure(
    images: np.ndarray,
    before: np.ndarray,
    learned: np.ndarray,
    classes: np.ndarray,
    class_names: tuple[str, ...],
    limits: tuple[float, float],
) -> Figure:
    """Original and learned labels of some images as bars, and their covariance over all.

    Args:
        images: as they are learned with, (n, h, w, c) in pixel space.
        before: labels (n, C) to begin with: one-hot vectors, centred.
        learned: labels (n, C) now.
        classes: the class of each image, integers (n,).
        class_names: C of them.
        limits: the values shown as black and as white.
    """
    samples = _samples(classes, len(class_names))
    columns = 1 if len(samples) <= 3 else 2
    rows = -(-len(samples) // columns)
    named = len(class_names) <= _MOST_NAMED
    pitch = _BARS / len(class_names)
    below = style.room_for_names(class_names, pitch) if named else LINE
    zoom = tiles.zoom_to(max(images.shape[1:3]), _TILE)
    tile = zoom * images.shape[2]
    unit = tile + 46 + _BARS + 28
    head = 2 * LINE + (8 if named else 16)
    cell = max(1, _HEAT // len(class_names))
    side = cell * len(class_names)
    beside = (style.room_for_names(class_names, 0.0) if named else 8) + 20
    heat_height = head + side + (style.room_for_names(class_names, cell) if named else 8) + LINE
    page = Page(
        _MARGIN + columns * unit + beside + side + 80,
        _MARGIN + max(head + rows * _ROW + below, heat_height) + _MARGIN // 2,
    )
    page.text("Labels of some of the images", _MARGIN, _MARGIN, fontweight="bold")
    _legend(page, _MARGIN, _MARGIN + LINE)
    pixels = tiles.enlarged(tiles.as_pixels(images[samples], limits), zoom)
    both = np.concatenate([before[samples], learned[samples]])
    reach = float(both.min()), float(both.max())
    for number, sample in enumerate(samples):
        row, column = number % rows, number // rows
        left, top = _MARGIN + column * unit, _MARGIN + head + row * _ROW
        last = row == rows - 1 or number == len(samples) - 1
        page.image(pixels[number], left, top + max(0, (_ROW - 18 - len(pixels[number])) // 2))
        axes = page.axes(left + tile + 46, top, _BARS, _ROW - 18)
        _bars(axes, before[sample], learned[sample], reach)
        if last and named:
            style.name_ticks(axes, class_names, pitch)
        elif not named:
            axes.set_title(class_names[classes[sample]], fontsize=style.SMALL, pad=2)
            axes.set_xticks([0, len(class_names) - 1] if last else [])
    left, top = _MARGIN + columns * unit + beside, _MARGIN
    page.text("Covariance", left, top, fontweight="bold")
    page.text(f"over {len(images):,} images", left, top + LINE, color=style.MUTED)
    _covariance(page, before, learned, class_names, (left, top + head, side), named)
    return page.figure


def _samples(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Images to show: the first of each class, of as many classes as there is room for."""
    firsts = [found[0] for c in range(num_classes) if len(found := np.flatnonzero(classes == c))]
    chosen = np.linspace(0, len(firsts) - 1, min(len(firsts), _MOST_SAMPLES)).astype(int)
    return np.array(firsts)[chosen]


def _legend(page: Page, left: int, top: int) -> None:
    for words, colour in (("original", style.BLUE), ("learned", style.ORANGE)):
        swatch = np.full((10, 10, 3), tuple(bytes.fromhex(colour[1:])), np.uint8)
        page.image(swatch, left, top + 2)
        page.text(words, left + 15, top, color=style.MUTED)
        left += 80


def _bars(axes: Axes, before: np.ndarray, learned: np.ndarray, reach: tuple[float, float]) -> None:
    at = np.arange(len(before))
    room = 0.05 * (reach[1] - reach[0])
    pitch = _BARS / (len(before) + 0.4) * 72 / style.DPI  # points from one class to the next
    # One collection for all bars of a colour: a patch for each would take ten times as long.
    if len(before) <= _MOST_NAMED:
        width = 0.4 * pitch
        axes.vlines(at - 0.21, 0, before, color=style.BLUE, linewidth=width, capstyle="butt")
        axes.vlines(at + 0.21, 0, learned, color=style.ORANGE, linewidth=width, capstyle="butt")
    else:  # side by side they would be too thin to see
        axes.vlines(at, 0, before, color=style.BLUE, linewidth=4, capstyle="butt")
        axes.vlines(at, 0, learned, color=style.ORANGE, linewidth=1.4, capstyle="butt")
    axes.axhline(0, color=style.MUTED, linewidth=0.8)
    axes.set(
        xlim=(-0.7, len(before) - 0.3), ylim=(min(0, reach[0]) - room, reach[1] + room), xticks=[]
    )
    axes.locator_params(axis="y", nbins=4)
    axes.spines["bottom"].set_visible(False)


def covariance(before: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Covariance (C, C) over images of original labels (rows) and learned ones (columns)."""
    centred = before - before.mean(0)
    return centred.T @ (learned - learned.mean(0)) / len(before)


def _covariance(
    page: Page,
    before: np.ndarray,
    learned: np.ndarray,
    class_names: tuple[str, ...],
    place: tuple[int, int, int],
    named: bool,
) -> None:
    left, top, side = place
    values = covariance(before, learned)
    extreme = float(np.abs(values).max()) or 1.0
    axes = page.heat_map(values, left, top, side, side, extreme)
    if named:
        axes.set_yticks(range(len(class_names)), [style.shortened(n) for n in class_names])
        style.name_ticks(axes, class_names, side / len(class_names))
    axes.set_ylabel("original label")
    axes.set_xlabel("learned label")
    page.colour_bar(left + side + 12, top, min(side, 160), extreme)
