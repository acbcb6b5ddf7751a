"""Score against the number of support images, for several runs."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from kipper.server.figures import style
from kipper.server.figures.style import LINE, Page
from kipper.server.measures import Measure

_LEFT, _WIDTH, _HEIGHT = 64, 640, 400
_MARKERS = "os^DvP"
_DASHES = (0, ()), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (9, 2))


@dataclasses.dataclass(frozen=True)
class SizedScore:
    """The score of a run.

    Attributes:
        line: names its line: data set, architecture, algorithm.
        baseline: names the line of its natural images.
        support_size: number of support images.
        score: the score of the distilled set, as shown.
        natural: the score of the natural images that were drawn, as shown; None: unknown.
    """

    line: str
    baseline: str
    support_size: int
    score: float
    natural: float | None


class _Look(NamedTuple):
    """How a line is drawn; `dashes` as matplotlib takes them: an offset, and ink and gaps."""

    colour: str
    marker: str
    dashes: tuple[float, tuple[float, ...]]

    @classmethod
    def of(cls, number: int) -> "_Look":
        """The look of a line by its number; the first 84 differ."""
        colours = len(style.SERIES)
        again = number // colours % len(_DASHES)
        return cls(style.SERIES[number % colours], _MARKERS[number % len(_MARKERS)], _DASHES[again])


@style.styled
def support_sizes_figure(
    scores: Sequence[SizedScore], measure: Measure, shared: str = ""
) -> Figure:
    """A line for each data set, architecture and algorithm, and dashed ones for natural images.

    The latter have the colour of the first line that they are the baseline of; a single one is
    grey. Lines connect the means of runs of one size, such as several seeds; the runs are points.

    Args:
        scores: the scores of at least one run.
        measure: the measure of the scores.
        shared: a subtitle, for what all runs have in common.
    """
    lines = sorted({score.line for score in scores})
    baselines = sorted({score.baseline for score in scores if score.natural is not None})
    legend = 15 * (len(lines) + len(baselines)) + 8
    page = Page(_LEFT + _WIDTH + 30, 3 * LINE + legend + _HEIGHT + 50)
    page.text(
        f"Test {measure.name} against the number of support images", _LEFT, 10, fontweight="bold"
    )
    page.text(shared, _LEFT, 10 + LINE, color=style.MUTED)
    axes = page.axes(_LEFT, 3 * LINE + legend, _WIDTH, _HEIGHT)
    looks = {line: _Look.of(number) for number, line in enumerate(lines)}
    for baseline in baselines:
        of = [score for score in scores if score.baseline == baseline]
        points = [(each.support_size, each.natural) for each in of if each.natural is not None]
        colour = looks[min(score.line for score in of)].colour
        look = _Look(colour if len(baselines) > 1 else style.MUTED, "x", (0, (4, 2)))
        _line(axes, points, f"natural images, {baseline}".removesuffix(", "), look)
    for line, look in looks.items():
        points = [(score.support_size, score.score) for score in scores if score.line == line]
        _line(axes, points, line, look)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderpad=0,
        borderaxespad=0.8,
        labelspacing=0.35,
        handlelength=3,
    )
    size_axis(axes, sorted({score.support_size for score in scores}), "support images")
    axes.set_ylabel(f"test {measure.name}")
    return page.figure


def _line(
    axes: Axes,
    points: list[tuple[int, float]],
    name: str,
    look: _Look,
) -> None:
    sizes = sorted({size for size, _ in points})
    means = [float(np.mean([value for at, value in points if at == size])) for size in sizes]
    axes.plot(
        sizes, means, color=look.colour, marker=look.marker, linestyle=look.dashes, label=name
    )
    if len(points) > len(sizes):
        colour, marker = look.colour, look.marker
        axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=3, alpha=0.5)


def size_axis(axes: Axes, sizes: list[int], what: str) -> None:
    """A logarithmic x axis with ticks at those of `sizes`, ascending, that have room."""
    axes.set_xscale("log")
    axes.set_xlabel(what + style.LOGARITHMIC)
    axes.xaxis.set_minor_locator(NullLocator())
    shown: list[int] = []
    for size in sizes:  # ticks are at least a twelfth of the axis apart
        if not shown or size / shown[-1] >= (sizes[-1] / sizes[0]) ** (1 / 12):
            shown.append(size)
    axes.set_xticks(shown, [f"{size:,}" for size in shown])
    axes.set_xlim(sizes[0] / 1.15, sizes[-1] * 1.15)
