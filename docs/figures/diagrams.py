"""Draws boxes, arrows and tiles at pixel positions from the page's top left corner."""

import io
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from kipper.server.figures.style import FAINT, INK, MUTED, ORANGE, SKY, VERMILION, Page, styled

_SMALL = 8
_BACKGROUND = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}

Place = tuple[float, float]


class Box(NamedTuple):
    """The position of a drawn box, with points where arrows start and end."""

    x: float
    y: float
    width: float
    height: float

    def at(self, across: float, down: float) -> Place:
        """The point at fractions of the width and the height."""
        return self.x + across * self.width, self.y + down * self.height

    @property
    def left(self) -> Place:
        return self.at(0, 0.5)

    @property
    def right(self) -> Place:
        return self.at(1, 0.5)

    @property
    def top(self) -> Place:
        return self.at(0.5, 0)

    @property
    def bottom(self) -> Place:
        return self.at(0.5, 1)


class Diagram:
    """A white page; x to the right and y downwards, in pixels."""

    def __init__(self, width: int, height: int):
        self._page = Page(width, height)
        self.figure = self._page.figure
        self._axes = self._page.axes(0, 0, width, height)
        self._axes.set(xlim=(0, width), ylim=(height, 0))
        self._axes.set_axis_off()

    def axes(self, x: float, y: float, width: float, height: float, **properties: Any) -> Axes:
        """Axes for curves, with that rectangle as their data area."""
        return self._page.axes(x, y, width, height, **properties)

    def text(self, x: float, y: float, words: str, **properties: Any) -> None:
        """Writes `words`, by default with their top left corner at (x, y)."""
        self._axes.text(x, y, words, **{"va": "top", "ha": "left", "size": 9, **properties})

    def area(self, x: float, y: float, width: float, height: float, title: str) -> None:
        """Draws a pale background with a title at its top."""
        self._axes.add_patch(Rectangle((x, y), width, height, facecolor="#f4f4f4", zorder=0))
        self.text(x + 10, y + 8, title, size=_SMALL, color=MUTED)

    def box(self, x: float, y: float, width: float, height: float, words: str, colour: str) -> Box:
        """Draws a rounded box with a coloured edge and centred words."""
        self._axes.add_patch(
            FancyBboxPatch(
                (x, y),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=5",
                facecolor="white",
                edgecolor=colour,
                linewidth=1.4,
                zorder=2,
            )
        )
        middle = {"ha": "center", "va": "center", "zorder": 3, "linespacing": 1.15}
        self.text(x + width / 2, y + height / 2, words, size=8.5, **middle)
        return Box(x, y, width, height)

    def arrow(
        self,
        start: Place,
        end: Place,
        label: str = "",
        *,
        bend: float = 0.0,
        shift: Place = (0, -9),
    ) -> None:
        """Draws an arrow with a label `shift` pixels from its middle."""
        self._axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>,head_length=4,head_width=2",
                connectionstyle=f"arc3,rad={bend}",
                color=MUTED,
                linewidth=1.0,
                shrinkA=0,
                shrinkB=0,
                zorder=1,
            )
        )
        if label:
            x, y = (start[0] + end[0]) / 2 + shift[0], (start[1] + end[1]) / 2 + shift[1]
            centred = {"ha": "center", "va": "center", "bbox": _BACKGROUND, "zorder": 1.5}
            self.text(x, y, label, size=_SMALL, linespacing=1.1, **centred)

    def path(self, places: list[Place], label: str, at: Place, colour: str = MUTED) -> None:
        """Draws an arrow along `places`, with its label centred at `at`."""
        for start, end in itertools.pairwise(places[:-1]):
            self._axes.plot(*zip(start, end, strict=True), color=colour, linewidth=1.0, zorder=1)
        last = FancyArrowPatch(
            places[-2],
            places[-1],
            arrowstyle="-|>,head_length=4,head_width=2",
            color=colour,
            linewidth=1.0,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )
        self._axes.add_patch(last)
        centred = {"ha": "center", "va": "center", "bbox": _BACKGROUND, "zorder": 1.5}
        self.text(*at, label, size=_SMALL, color=colour, **centred)

    def band(
        self,
        x: float,
        y: float,
        width: float,
        side: int,
        band: int,
        entry: tuple[int, int],
        pool: tuple[int, int] | None,
    ) -> None:
        """Draws all pairs of `side` pixels, with those within the band coloured.

        Marks `entry`, and the two by two entries from `pool` that a pool adds up.
        """
        cell = width / side
        edges = np.arange(side + 1)
        low = y + cell * np.maximum(0, edges - band)
        high = y + cell * np.minimum(side, edges + band + 1)
        self._axes.add_patch(Rectangle((x, y), width, width, facecolor=FAINT, zorder=0))
        self._axes.fill_between(x + cell * edges, low, high, step="post", color=SKY, linewidth=0)
        if pool is not None:
            corner = (x + cell * pool[0], y + cell * pool[1])
            self._axes.add_patch(
                Rectangle(
                    corner, 2 * cell, 2 * cell, facecolor=ORANGE, edgecolor=INK, linewidth=0.7
                )
            )
        corner = (x + cell * entry[0], y + cell * entry[1])
        self._axes.add_patch(Rectangle(corner, cell, cell, facecolor=VERMILION, zorder=2))

    def plane(self, x: float, y: float, width: float, height: float, colour: str | None) -> None:
        """Draws one plane of a stack, white without a colour."""
        plane = Rectangle(
            (x, y), width, height, facecolor=colour or "white", edgecolor=MUTED, linewidth=0.8
        )
        self._axes.add_patch(plane)

    def tile(
        self,
        x: float,
        y: float,
        scale: Place,
        rows: tuple[int, int],
        columns: tuple[int, int],
        words: str,
        colour: str | None,
    ) -> None:
        """Draws a block of the matrix with corner (x, y), pale grey without a colour."""
        across, down = scale
        corner = (x + across * columns[0], y + down * rows[0])
        sides = (across * (columns[1] - columns[0]), down * (rows[1] - rows[0]))
        face = colour or "#f4f4f4"
        self._axes.add_patch(
            Rectangle(corner, *sides, facecolor=face, edgecolor="white", linewidth=1.5)
        )
        middle = (corner[0] + sides[0] / 2, corner[1] + sides[1] / 2)
        shade = INK if colour == ORANGE else "white"
        self.text(*middle, words, ha="center", va="center", color=shade)

    def lanes(self, names: tuple[str, ...], top: float, bottom: float) -> list[float]:
        """Draws a vertical line for each participant; returns their x positions."""
        left, right = self._axes.get_xlim()
        pitch = (right - left) / len(names)
        places = [pitch * (number + 0.5) for number in range(len(names))]
        for x, name in zip(places, names, strict=True):
            self.text(x, top - 24, name, weight="bold", ha="center")
            self._axes.plot([x, x], [top, bottom], color=FAINT, linewidth=2, zorder=0)
        return places

    def message(self, y: float, start: float, end: float, words: str, colour: str) -> None:
        """Draws an arrow from lane to lane, with `words` above it."""
        self._axes.add_patch(
            FancyArrowPatch(
                (start, y),
                (end, y),
                arrowstyle="-|>,head_length=4,head_width=2",
                color=colour,
                linewidth=1.0,
                shrinkA=1,
                shrinkB=1,
            )
        )
        side = 1 if end > start else -1
        self.text(
            start + side * 6,
            y - 2,
            words,
            size=_SMALL,
            va="bottom",
            ha="left" if side > 0 else "right",
            bbox=_BACKGROUND,
            zorder=0.5,
        )

    def note(self, x: float, y: float, words: str, colour: str) -> None:
        """Draws a framed note: an action without a message."""
        edge = {"facecolor": "white", "edgecolor": colour, "boxstyle": "round,pad=0.35"}
        self.text(x, y, words, size=_SMALL, ha="center", va="center", bbox=edge, zorder=3)


def as_svg(make: Callable[[], Diagram]) -> bytes:
    """The figure as reproducible SVG, with letters as outlines."""

    @styled
    def svg() -> bytes:
        with matplotlib.rc_context({"svg.hashsalt": make.__name__, "svg.fonttype": "path"}):
            target = io.BytesIO()
            # Without a date, the same matplotlib version writes the same bytes.
            make().figure.savefig(target, format="svg", metadata={"Date": None})
            return target.getvalue()

    return svg()
