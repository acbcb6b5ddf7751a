"""The common look of all figures: colours, fonts, and pages laid out in whole pixels.

Figures use the object interface of matplotlib and change its settings within `styled` only, so that
the user's own figures, settings and backend stay as they are.
"""

import functools
import io
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

# The palette of Okabe and Ito, which people with any kind of colour vision can tell apart.
BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
VERMILION, PURPLE, SKY = "#d55e00", "#cc79a7", "#56b4e9"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#000000")
INK, MUTED, FAINT = "#222222", "#666666", "#e4e4e4"
# Blue below zero, white at zero, red above.
DIVERGING = "RdBu_r"

DPI = 100  # a point is 100 / 72 pixels
TEXT, SMALL = 9.0, 8.0  # points
LINE = 18  # pixels from one line of text to the next
# Average width of a character of small text in pixels, to find out which texts fit.
CHARACTER = 6.2
_LOOK = {
    "font.family": ["DejaVu Sans"],
    "font.size": TEXT,
    # A dollar sign in a class name does not start a formula.
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": TEXT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
}

_Made = TypeVar("_Made")


# matplotlib's settings are global, and the live page draws in a thread of its own.
_SETTINGS = threading.RLock()


def styled(make: Callable[..., _Made]) -> Callable[..., _Made]:
    """Makes a function draw its figure in the look above, whatever the user's settings are."""

    @functools.wraps(make)
    def in_style(*args: Any, **kwargs: Any) -> _Made:
        with _SETTINGS, matplotlib.style.context(["default", _LOOK]):
            return make(*args, **kwargs)

    return in_style


class Page:
    """A white figure, laid out in pixels from its top left corner.

    Attributes:
        figure: the figure, for `png`.
        width, height: pixels.
    """

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def image(self, pixels: np.ndarray, left: int, top: int) -> None:
        """Copies uint8 pixels (h, w, 3) to the page, without scaling."""
        self.figure.figimage(pixels, left, self.height - top - len(pixels), origin="upper")

    def text(self, words: str, left: float, top: float, **properties: Any) -> None:
        """Writes words, by default with their top left corner at that point."""
        self.figure.text(
            left / self.width,
            1 - top / self.height,
            words,
            **{"va": "top", "ha": "left", **properties},
        )

    def legend(self, entries: Iterable[tuple[str, str]], left: int, top: int, pitch: int) -> None:
        """Squares of colours with their names, `pitch` pixels apart."""
        for name, colour in entries:
            self.image(np.full((10, 10, 3), rgb(colour), np.uint8), left, top + 3)
            self.text(name, left + 15, top, color=MUTED)
            left += pitch

    def axes(self, left: float, top: float, width: float, height: float, **properties: Any) -> Axes:
        """Axes with that rectangle as their data area."""
        bottom = self.height - top - height
        across, up = self.width, self.height
        return self.figure.add_axes(
            (left / across, bottom / up, width / across, height / up), **properties
        )

    def heat_map(
        self, values: np.ndarray, left: int, top: int, width: int, height: int, extreme: float
    ) -> Axes:
        """A heat map of (rows, columns) without ticks; white at 0, full colour at ± `extreme`."""
        axes = self.axes(left, top, width, height)
        axes.imshow(
            values,
            cmap=DIVERGING,
            vmin=-extreme,
            vmax=extreme,
            aspect="auto",
            interpolation="nearest",
        )
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        axes.tick_params(length=0, pad=3)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(FAINT)
        return axes

    def colour_bar(self, left: int, top: int, height: int, extreme: float) -> None:
        """The colour scale of `heat_map`: a strip 12 pixels wide with ticks on its right."""
        ramp = np.linspace(extreme, -extreme, 256)[:, None]
        axes = self.heat_map(ramp, left, top, 12, height, extreme)
        axes.yaxis.tick_right()
        shown = f"{extreme:.2g}"
        axes.set_yticks([-0.5, 127.5, 255.5], [shown, "0", f"−{shown}"])


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue from 0 to 255 of a colour such as BLUE."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def logarithmic(axes: Axes) -> None:
    """Makes the y axis logarithmic if its values differ by a factor of five or more."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0 or values.max() < 5 * values.min():
        return
    axes.set_yscale("log")
    few = values.max() < 50 * values.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    if few:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.yaxis.set_minor_locator(NullLocator())


def png(figure: Figure) -> bytes:
    """The figure as PNG, one pixel for each pixel of the page."""
    target = io.BytesIO()
    assert isinstance(figure.canvas, FigureCanvasAgg)
    with warnings.catch_warnings():
        # Class names may be in any script; characters that the font lacks become boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.canvas.print_png(target)
    return target.getvalue()


def shortened(name: str, most: int = 12) -> str:
    """A name on one line, cut to at most `most` characters."""
    name = " ".join(name.split())
    return name if len(name) <= most else name[: most - 1] + "…"


def name_ticks(axes: Axes, names: tuple[str, ...], pitch: float, above: bool = False) -> None:
    """Class names along the x axis, vertical if they would touch at `pitch` pixels per class."""
    shown = [shortened(name) for name in names]
    if above:
        axes.xaxis.tick_top()
    upright = max(map(len, shown)) * CHARACTER > pitch
    axes.set_xticks(range(len(shown)), shown, rotation=90 if upright else 0)


def room_for_names(names: tuple[str, ...], pitch: float) -> int:
    """The height of the names of `name_ticks` in pixels."""
    longest = max(len(shortened(name)) for name in names) * CHARACTER
    return round(longest) + 8 if longest > pitch else LINE
