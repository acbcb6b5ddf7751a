"""The common look of all figures: colours, fonts, and pages laid out in whole pixels.

Figures use the object interface of matplotlib and change its settings within `styled` only, so that
the user's own figures, settings and backend stay as they are.
"""

import functools
import io
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import LogLocator, NullLocator

# The palette of Okabe and Ito, which people with any kind of colour vision can tell apart.
BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
VERMILION, PURPLE, SKY = "#d55e00", "#cc79a7", "#56b4e9"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#000000")
INK, MUTED, FAINT = "#222222", "#666666", "#e4e4e4"
# Blue below zero, white at zero, red above.
DIVERGING = "RdBu_r"

LOGARITHMIC = ", logarithmic"
PICTURE = "picture"  # marks images that are not part of the drawing
DPI = 100  # a point is 100 / 72 pixels
TEXT, SMALL = 9.0, 8.0  # points
LINE = 18  # pixels from one line of text to the next
# The longest name of a class in pixels; from a longer one the middle is left out.
NAME = 190
_FONT = "DejaVu Sans"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOOK = {
    "font.family": [_FONT],
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
        """Copies uint8 pixels (h, w, 3), which are part of the drawing, without scaling."""
        self.figure.figimage(pixels, left, self.height - top - len(pixels), origin="upper")

    def picture(self, pixels: np.ndarray, left: int, top: int) -> None:
        """Copies uint8 pixels (h, w, 4) of images, which look the same on a dark page."""
        bottom = self.height - top - len(pixels)
        self.figure.figimage(pixels, left, bottom, origin="upper", gid=PICTURE)

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
        """The colour scale of `heat_map`: a strip 12 pixels wide with ticks on its right.

        `room_for_bar` says how wide it is with its ticks.
        """
        ramp = np.linspace(extreme, -extreme, 256)[:, None]
        axes = self.heat_map(ramp, left, top, 12, height, extreme)
        axes.yaxis.tick_right()
        ticks = extreme, 0, -extreme
        axes.set_yticks([-0.5, 127.5, 255.5], [number(tick) for tick in ticks])


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue from 0 to 255 of a colour such as BLUE."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def number(value: float, digits: int = 2) -> str:
    """A number as ticks have it: 0.019, 3,700, or 3.7·10¹²."""
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0 or 1e-4 <= abs(rounded) < 1e6:
        shown = f"{rounded:,.10g}"
    else:
        mantissa, exponent = f"{rounded:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
        shown = power if mantissa == "1" else f"{mantissa}·{power}"
    return shown.replace("-", "−")


def number_ticks(axes: Axes) -> None:
    """Ticks of the y axis as numbers, without a factor that is written apart from them."""
    axes.yaxis.set_major_formatter(lambda value, _: number(value, 4))


def logarithmic(axes: Axes) -> str:
    """Makes the y axis logarithmic if its values differ by a factor of five or more.

    Returns:
        What the axis's title has to say after a comma: `LOGARITHMIC`, or nothing.
    """
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    values = values[np.isfinite(values)]
    number_ticks(axes)
    if not len(values) or values.min() <= 0 or values.max() < 5 * values.min():
        return ""
    axes.set_yscale("log")
    few = values.max() < 50 * values.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    number_ticks(axes)
    axes.yaxis.set_minor_locator(NullLocator())
    return LOGARITHMIC


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


@functools.cache
def _pen() -> tuple[RendererAgg, FontProperties]:
    canvas = FigureCanvasAgg(Figure(dpi=DPI))
    return canvas.get_renderer(), FontProperties(family=[_FONT], size=SMALL)


@functools.lru_cache(10_000)
def width(words: str) -> float:
    """The width of small text in pixels."""
    renderer, font = _pen()
    with _SETTINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that the font lacks, as in `png`
        return float(renderer.get_text_width_height_descent(words, font, ismath=False)[0])


def shortened(name: str, most: float = NAME) -> str:
    """A name on one line; if it is wider than `most` pixels, without its middle.

    Names of one kind often differ at their end alone.
    """
    name = " ".join(name.split())
    if width(name) <= most:
        return name
    kept = len(name)
    while kept > 2:
        kept -= 1
        shown = name[: kept - kept // 3].rstrip() + "…" + name[len(name) - kept // 3 :].lstrip()
        if width(shown) <= most:
            return shown
    return name[:1] + "…"


def widest(names: Iterable[str], most: float = NAME) -> float:
    """The width of the widest of some names, shortened, in pixels."""
    return max((width(shortened(name, most)) for name in names), default=0.0)


def are_upright(names: Sequence[str], pitch: float) -> bool:
    """Whether names would touch if they stood side by side, `pitch` pixels from one to the next."""
    return widest(names) > pitch - 4


def name_ticks(axes: Axes, names: tuple[str, ...], pitch: float) -> None:
    """Class names along the x axis, vertical if they would touch at `pitch` pixels per class."""
    shown = [shortened(name) for name in names]
    axes.set_xticks(range(len(shown)), shown, rotation=90 if are_upright(names, pitch) else 0)


def room_for_names(names: tuple[str, ...], pitch: float) -> int:
    """The height of the names of `name_ticks` in pixels."""
    return round(widest(names)) + 12 if are_upright(names, pitch) else LINE


def reach(values: np.ndarray) -> tuple[float, float]:
    """The least and the largest of values and zero; 0 to 1 if all are zero."""
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    return low, high if high > low else 1.0


def extreme(values: np.ndarray) -> float:
    """The largest magnitude among values, for a heat map; 1 if there is none above zero."""
    return max(map(abs, reach(values)))


def room_for_bar(extreme: float) -> int:
    """The width of a colour bar with its ticks, in pixels."""
    return 12 + 8 + round(width(number(-extreme)))
