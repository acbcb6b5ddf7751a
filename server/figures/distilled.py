"""Distilled images by class, beside their initial images, and their labels."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from kipper.server.figures import style, tiles
from kipper.server.figures.style import LINE, Page

_TILE = 64  # desired side of a tile in pixels
_PANEL = 340  # maximum width of a panel in pixels, where three are side by side
_STRIP = 1000  # maximum width of a strip in pixels: a row with one image of each class
_MARGIN = 16
_BETWEEN = 28  # pixels between panels
_GAP = 2  # pixels between tiles
_HOLE = -1  # marks places of a grid without an image
_MOST_IN_A_ROW = 10
_MOST_ROWS = 20
_MOST_TILES = 100
_PANEL_LEAST = 230  # minimum width of a panel, for its heading
_BESIDE_BAR = 14  # pixels between a heat map and its colour bar


@dataclasses.dataclass(frozen=True)
class SupportSet:
    """A support set in pixel space.

    Attributes:
        initial: images (n, h, w, c) before the first step, of any range.
        limits: the values shown as black and as white.
        final: the learned images (n, h, w, c); None if they were not learned.
        labels: learned labels (n, C), float64; None if they were not learned.
        classes: the class of each image, integers (n,); None for targets of a regression.
        class_names: C of them.
        nearest: the training image most similar to each final one, (n, h, w, c); None: unknown.
        nearest_classes: their classes (n,).
    """

    initial: np.ndarray
    limits: tuple[float, float]
    final: np.ndarray | None = None
    labels: np.ndarray | None = None
    classes: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    nearest: np.ndarray | None = None
    nearest_classes: np.ndarray | None = None


class _Panel(NamedTuple):
    """A view of all images (n, h, w, c), with its heading and lines below that."""

    heading: str
    remarks: tuple[str, ...]
    images: np.ndarray
    classes: np.ndarray | None = None  # named below each tile if there is room


@style.styled
def distilled_figure(support: SupportSet, before: str, after: str, steps: int) -> Figure:
    """Initial and final images, the natural image nearest to each, and a heat map of labels.

    One image of each class gives a column per class, several a row per class. With more than twenty
    classes, or none, the first image of each follow one another.

    Args:
        support: the images and labels.
        before, after: the scores of the initial and of the final set, in words.
        steps: gradient steps made.
    """
    panels = _panels(support, before, after, steps)
    if support.classes is None:
        return _wrapped(panels, support, np.arange(len(support.initial))[:_MOST_TILES])
    by_class = [np.flatnonzero(support.classes == c) for c in range(len(support.class_names))]
    _, _, width, _ = support.initial.shape
    if len(by_class) > _MOST_ROWS:
        return _wrapped(panels, support, np.array([ids[0] for ids in by_class if len(ids)]))
    if max(map(len, by_class)) == 1 and len(by_class) * (width + 4) <= _STRIP:
        return _strips(panels, support, np.concatenate(by_class))
    return _rows(panels, support, by_class)


def _panels(support: SupportSet, before: str, after: str, steps: int) -> list[_Panel]:
    learned = ", labels learned" if support.labels is not None else ""
    if support.final is None:
        remarks: tuple[str, ...] = (before,)
        if learned:
            remarks = (f"{before} with their own labels,", f"{after} with learned ones")
        return [_Panel("Support images", remarks, support.initial)]
    after_steps = f"After {steps:,} step{'' if steps == 1 else 's'}{learned}"
    panels = [
        _Panel("Initial images", (before,), support.initial),
        _Panel(after_steps, (after,), support.final),
    ]
    if support.nearest is not None:
        remark = "of the training set"
        if support.classes is not None and support.nearest_classes is not None:
            same = int(np.sum(support.nearest_classes == support.classes))
            remark = f"{same} of {len(support.classes)} of the same class"
        panels.append(
            _Panel("Nearest natural image", (remark,), support.nearest, support.nearest_classes)
        )
    return panels


def _tiled(
    support: SupportSet, panel: _Panel, ids: np.ndarray, columns: int, zoom: int
) -> np.ndarray:
    """The panel's images `ids` as uint8 pixels, transparent white for a hole."""
    shown = tiles.opaque(tiles.as_pixels(panel.images[ids], support.limits))
    shown[ids == _HOLE] = tiles.HOLE
    return tiles.tiled(tiles.enlarged(shown, zoom), columns, _GAP)


def _head(page: Page, left: int, top: int, heading: str, remarks: Sequence[str]) -> None:
    page.text(heading, left, top, fontweight="bold")
    page.text("\n".join(remarks), left, top + LINE, color=style.MUTED, linespacing=1.45)


def _head_height(panels: list[_Panel]) -> int:
    return (1 + max(len(panel.remarks) for panel in panels)) * LINE + 6


def _room_beside(names: Sequence[str]) -> int:
    """Width in pixels of names to the left of rows."""
    return round(style.widest(names)) + 12


def _strips(panels: list[_Panel], support: SupportSet, ids: np.ndarray) -> Figure:
    """A column per image: its pictures, and below them its label as a column of colours."""
    _, height, width, _ = panels[0].images.shape
    assert support.classes is not None
    names, count = support.class_names, len(ids)
    own = tuple(names[c] for c in support.classes[ids])
    zoom = tiles.zoom_to(max(height, width), min(2 * _TILE, max(_TILE, 420 / count)))
    zoom = min(zoom, tiles.zoom_to(width, _STRIP / count - _GAP))
    tile = zoom * width
    pitch, across = tile + _GAP, count * (tile + _GAP) - _GAP
    room = style.room_for_names(names, pitch)
    captions = [room if panel.classes is not None else 0 for panel in panels]
    head = _head_height(panels)
    beside = heat = below = bar = 0
    if support.labels is not None:
        beside, heat, below = _room_beside(names), len(names) * LINE, room + 2 * LINE + 6
        bar = _BESIDE_BAR + style.room_for_bar(style.extreme(support.labels))
    page = Page(
        max(_MARGIN + beside + across + max(bar, _MARGIN), 480),
        2 * _MARGIN
        + room
        + len(panels) * (head + zoom * height + 14)
        + sum(captions)
        + heat
        + below
        - 14,
    )
    left, top = _MARGIN + beside, _MARGIN
    for number, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        _head(page, left, top, panel.heading, panel.remarks)
        top += head
        if number == 0:
            top += room
            _captions(page, own, left + tile / 2, top - 4, pitch, above=True)
        page.picture(_tiled(support, panel, ids, count, zoom), left, top)
        top += zoom * height
        if panel.classes is not None:
            found = tuple(names[c] for c in panel.classes[ids])
            _captions(page, found, left + tile / 2, top + 4, pitch, above=False)
        top += caption + 14
    if support.labels is not None:
        _head(page, left, top, "Learned labels", ("a column per image, a row per class",))
        top += 2 * LINE + 6
        extreme = style.extreme(support.labels)
        axes = page.heat_map(
            support.labels[ids].T, left - _GAP // 2, top, count * pitch, heat, extreme
        )
        axes.set_yticks(range(len(names)), [style.shortened(name) for name in names])
        style.name_ticks(axes, own, pitch)
        page.colour_bar(left + across + _BESIDE_BAR, top, heat, extreme)
    return page.figure


def _captions(
    page: Page, names: tuple[str, ...], centre: float, edge: int, pitch: int, above: bool
) -> None:
    """Names above or below the tiles of a strip, the first of which is centred at `centre`."""
    upright = style.are_upright(names, pitch)
    for number, name in enumerate(names):
        page.text(
            style.shortened(name),
            centre + number * pitch,
            edge,
            ha="center",
            va="bottom" if above else "top",
            rotation=90 if upright else 0,
            fontsize=style.SMALL,
        )


def _rows(panels: list[_Panel], support: SupportSet, by_class: list[np.ndarray]) -> Figure:
    """A row per class, with as many of its images as there is room for."""
    _, height, width, _ = panels[0].images.shape
    most = max(map(len, by_class))
    few = len(by_class) <= 4  # which leaves room for larger tiles
    most_in_a_row = _MOST_IN_A_ROW // 2 if few else _MOST_IN_A_ROW
    columns = min(most, most_in_a_row, max(1, _PANEL // (width + _GAP)))
    zoom = tiles.zoom_to(width, _PANEL / columns - _GAP)
    zoom = min(zoom, tiles.zoom_to(height, 2 * _TILE if few else _TILE))
    grid = np.full((len(by_class), columns), _HOLE)
    for row, ids in enumerate(by_class):
        grid[row, : min(len(ids), columns)] = ids[:columns]
    if columns < most:
        panels = _with_remark(panels, f"the first {columns} of {most} of each class")
    return _beside(panels, support, grid, zoom, list(support.class_names))


def _wrapped(panels: list[_Panel], support: SupportSet, ids: np.ndarray) -> Figure:
    """All images in rows of at most ten, each named by the class of its first image."""
    _, height, width, _ = panels[0].images.shape
    columns = min(_MOST_IN_A_ROW, len(ids), max(1, _PANEL // (width + _GAP)))
    zoom = tiles.zoom_to(max(height, width), min(_TILE, _PANEL / columns - _GAP))
    grid = np.full(-(-len(ids) // columns) * columns, _HOLE)
    grid[: len(ids)] = ids
    grid = grid.reshape(-1, columns)
    names = [""] * len(grid)
    if support.classes is not None:
        firsts = support.classes[grid[:, 0]]
        names = [f"{style.shortened(support.class_names[c], style.NAME - 20)} …" for c in firsts]
    total = len(support.initial)
    if len(ids) < total:
        which = "one of each class" if support.classes is not None else "the first"
        panels = _with_remark(panels, f"{which}: {len(ids)} of {total:,}")
    return _beside(panels, support, grid, zoom, names)


def _with_remark(panels: list[_Panel], remark: str) -> list[_Panel]:
    first = panels[0]
    return [first._replace(remarks=(*first.remarks, remark)), *panels[1:]]


def _beside(
    panels: list[_Panel], support: SupportSet, grid: np.ndarray, zoom: int, names: list[str]
) -> Figure:
    """Panels side by side, each with the tiles of `grid` (rows, columns) of image numbers."""
    _, height, width, _ = panels[0].images.shape
    rows, columns = grid.shape
    pitch_down = zoom * height + _GAP
    down = rows * pitch_down - _GAP
    across = columns * (zoom * width + _GAP) - _GAP
    panel_width = max(across, _PANEL_LEAST) + _BETWEEN
    head = _head_height(panels)
    classes = support.class_names if support.labels is not None else ()
    cell = max(2, min(LINE, 200 // max(1, len(classes))))
    heat = max(len(classes) * cell, 130) if classes else 0
    named = 0 < len(classes) <= _MOST_ROWS
    values, bar = np.zeros((0, len(classes))), 0
    if classes and support.labels is not None:
        values = np.vstack([support.labels, np.zeros(len(classes))])[grid.reshape(-1)]
        values = values[: np.flatnonzero(grid.reshape(-1) != _HOLE)[-1] + 1]
        bar = _BESIDE_BAR + style.room_for_bar(style.extreme(values))
    page = Page(
        _MARGIN + _room_beside(names) + len(panels) * panel_width + (heat + bar if heat else 0),
        2 * _MARGIN + head + down + (style.room_for_names(classes, cell) if named else 0),
    )
    left, top = _MARGIN + _room_beside(names), _MARGIN + head
    for row, name in enumerate(names):
        page.text(
            style.shortened(name),
            left - 8,
            top + row * pitch_down + zoom * height / 2,
            ha="right",
            va="center",
            fontsize=style.SMALL,
        )
    for panel in panels:
        _head(page, left, _MARGIN, panel.heading, panel.remarks)
        page.picture(_tiled(support, panel, grid.reshape(-1), columns, zoom), left, top)
        left += panel_width
    if heat:
        _head(page, left, _MARGIN, "Learned labels", ("a row per image",))
        extreme = style.extreme(values)
        axes = page.heat_map(values, left, top, heat, down, extreme)
        if named:
            style.name_ticks(axes, classes, heat / len(classes))
        page.colour_bar(left + heat + _BESIDE_BAR, top, min(down, 160), extreme)
    return page.figure
