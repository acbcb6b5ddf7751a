"""Original and learned labels: of a few images, and their covariance over all."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kipper.server.figures import style, tiles
from kipper.server.figures.style import LINE, Page

_MARGIN = 16
_TILE = 72  # desired side of a tile in pixels
_MOST_SAMPLES = 10
_MOST_NAMED = 20
_BARS = 260  # width of the bars of one image, in pixels
_BESIDE_BAR = 12  # pixels between a heat map and its colour bar
_ROW = 96  # pixels from one image to the next
_SPACE = 18  # of those, pixels between the bars of two images
_HEAT = 300  # desired side of the covariance in pixels


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
        images: (n, h, w, c) in pixel space.
        before: original labels (n, C): centred one-hot vectors.
        learned: labels (n, C).
        classes: the class of each image, integers (n,).
        class_names: C of them.
        limits: the values shown as black and as white.
    """
    samples = _samples(classes, len(class_names))
    columns = np.array_split(samples, 1 if len(samples) <= 3 else 2)
    rows, named = len(columns[0]), len(class_names) <= _MOST_NAMED
    below = style.room_for_names(class_names, _BARS / len(class_names)) if named else LINE
    zoom = tiles.zoom_to(max(images.shape[1:3]), _TILE)
    both = np.concatenate([before[samples], learned[samples]])
    reach = style.reach(both)
    ticks = round(max(map(style.width, _ticks(reach)[1]))) + 16
    unit = zoom * images.shape[2] + ticks + _BARS + 28
    head = 2 * LINE + (8 if named else 16)
    cell = max(1, _HEAT // len(class_names))
    side = cell * len(class_names)
    beside = (style.room_for_names(class_names, 0.0) if named else 8) + 20
    values = covariance(before, learned)
    bar = style.room_for_bar(style.extreme(values))
    heat_height = head + side + (style.room_for_names(class_names, cell) if named else 8) + LINE
    page = Page(
        _MARGIN + len(columns) * unit + beside + side + _BESIDE_BAR + bar + _MARGIN,
        _MARGIN + max(head + rows * _ROW + below, heat_height) + _MARGIN // 2,
    )
    page.text("Labels of some of the images", _MARGIN, _MARGIN, fontweight="bold")
    page.legend((("original", style.BLUE), ("learned", style.ORANGE)), _MARGIN, _MARGIN + LINE, 80)
    left, top = _MARGIN, _MARGIN
    for column in columns:
        pixels = tiles.enlarged(tiles.opaque(tiles.as_pixels(images[column], limits)), zoom)
        for row, image in enumerate(pixels):
            above = max(0, (_ROW - _SPACE - len(image)) // 2)
            page.picture(image, left, top + head + row * _ROW + above)
        axes = page.axes(left + unit - _BARS - 28, top + head, _BARS, len(column) * _ROW)
        zeros = _bars(axes, before[column], learned[column], reach)
        if named:
            style.name_ticks(axes, class_names, _BARS / len(class_names))
        else:
            axes.set_xticks([0, len(class_names) - 1])
            for row, sample in enumerate(column):
                name = style.shortened(class_names[classes[sample]], _BARS)
                axes.text(0, row * _ROW - 2, name, fontsize=style.SMALL)
        axes.hlines(zeros, *axes.get_xlim(), color=style.MUTED, linewidth=0.8)
        left += unit
    left += beside
    page.text("Covariance", left, top, fontweight="bold")
    page.text(f"over {len(images):,} images", left, top + LINE, color=style.MUTED)
    _covariance(page, values, class_names, (left, top + head, side), named)
    return page.figure


def _samples(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """The images to show: the first of each class, for at most `_MOST_SAMPLES` classes."""
    firsts = [found[0] for c in range(num_classes) if len(found := np.flatnonzero(classes == c))]
    chosen = np.linspace(0, len(firsts) - 1, min(len(firsts), _MOST_SAMPLES)).astype(int)
    return np.array(firsts)[chosen]


def _ticks(reach: tuple[float, float]) -> tuple[np.ndarray, list[str]]:
    """Ticks of an axis: their positions and their texts."""
    low, high = reach
    found = np.asarray(MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high))
    found = found[(found >= low) & (found <= high)]
    return found, [style.number(at, 3) for at in found]


def _bars(
    axes: Axes, before: np.ndarray, learned: np.ndarray, reach: tuple[float, float]
) -> np.ndarray:
    """Draws labels (rows, C) as bars in one axis, whose unit is a pixel; returns the rows' zeros.

    An axis for each row would take ten times as long to draw.
    """
    count, classes = before.shape
    low, high = reach
    scale = (_ROW - _SPACE) / ((high - low) or 1.0)
    zeros = np.arange(count) * _ROW + high * scale
    axes.set(xlim=(-0.7, classes - 0.3), ylim=(count * _ROW, 0))
    axes.spines[:].set_visible(False)
    values, shown = _ticks(reach)
    axes.set_yticks((zeros[:, None] - scale * values).ravel(), shown * count)
    axes.tick_params(length=0)
    side_by_side = classes <= _MOST_NAMED  # otherwise they would be too thin
    pitch = _BARS / (classes + 0.4) * 72 / style.DPI  # points from one class to the next
    widths = (0.4 * pitch, 0.4 * pitch) if side_by_side else (4.0, 1.4)
    base = zeros.repeat(classes)
    for labels, colour, offset, width in (
        (before, style.BLUE, -0.21 * side_by_side, widths[0]),
        (learned, style.ORANGE, 0.21 * side_by_side, widths[1]),
    ):
        at = np.tile(np.arange(classes) + offset, count)
        tops = base - scale * labels.ravel()
        axes.vlines(at, base, tops, color=colour, linewidth=width, capstyle="butt")
    return zeros


def covariance(before: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """The covariance (C, C), over images, of original (rows) and learned labels (columns)."""
    centred = before - before.mean(0)
    return centred.T @ (learned - learned.mean(0)) / len(before)


def _covariance(
    page: Page,
    values: np.ndarray,
    class_names: tuple[str, ...],
    place: tuple[int, int, int],
    named: bool,
) -> None:
    left, top, side = place
    extreme = style.extreme(values)
    axes = page.heat_map(values, left, top, side, side, extreme)
    if named:
        axes.set_yticks(range(len(class_names)), [style.shortened(n) for n in class_names])
        style.name_ticks(axes, class_names, side / len(class_names))
    axes.set_ylabel("original label")
    axes.set_xlabel("learned label")
    page.colour_bar(left + side + _BESIDE_BAR, top, min(side, 160), extreme)
