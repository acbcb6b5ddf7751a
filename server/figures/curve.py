"""Loss and score against step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from kipper.server.figures import style
from kipper.server.figures.style import LINE, Page
from kipper.server.measures import Measure, Score

_LEFT, _WIDTH, _RIGHT = 64, 640, 150
_HEIGHT = 230
# A step axis this long or longer is logarithmic: most happens at its beginning.
_LONG = 30

_PARTS = (
    ("test", "test", style.BLUE, "o"),
    ("validation", "held out", style.GREEN, "s"),
    ("train", "training batch", style.VERMILION, "^"),
)

Records = Sequence[Mapping[str, Any]]


@style.styled
def curve_figure(
    records: Records, validation: Records, natural: float | None, measure: Measure
) -> Figure:
    """The loss of training above, scores below, each against the number of gradient steps.

    Where nothing was learned step by step, one bar a score.

    Args:
        records: of metrics.jsonl, at least one.
        validation: of validation.jsonl; may be empty.
        natural: the score of natural images with natural labels, as shown; None: unknown.
        measure: what the scores are.
    """
    if len(records) == 1:
        return _single(records[0], validation, natural, measure)
    page = Page(_LEFT + _WIDTH + _RIGHT, 3 * LINE + 2 * _HEIGHT + 70)
    losses = page.axes(_LEFT, 2 * LINE, _WIDTH, _HEIGHT)
    page.text("Loss on each step's target images", _LEFT, LINE - 8, fontweight="bold")
    _line(losses, records, "loss", 1.0, style.BLUE, "o")
    style.logarithmic(losses)
    scores = page.axes(_LEFT, 4 * LINE + _HEIGHT + 10, _WIDTH, _HEIGHT)
    page.text(_capital(measure.name), _LEFT, 3 * LINE + _HEIGHT + 2, fontweight="bold")
    ends = []
    for part, name, colour, marker in _PARTS:
        source = validation if part == "validation" else records
        last = _line(scores, source, f"{part}_{measure.key}", measure.factor, colour, marker)
        if last is not None:
            ends.append((last, f"{name} {measure.digits(last)}", colour))
    if natural is not None:
        scores.axhline(natural, color=style.INK, linestyle=(0, (4, 3)), linewidth=1.2)
        ends.append((natural, f"natural {measure.digits(natural)}", style.INK))
    for axes in (losses, scores):
        step_axis(axes, records)
    losses.tick_params(labelbottom=False)
    scores.set_xlabel("step")
    _end_labels(scores, ends)
    return page.figure


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _line(
    axes: Axes, records: Records, key: str, factor: float, colour: str, marker: str
) -> float | None:
    """Draws a field of the records that have it; returns its last value."""
    points = [(r["step"], factor * r[key]) for r in records if r.get(key) is not None]
    if not points:
        return None
    steps, values = zip(*points, strict=True)
    few = len(points) <= 40
    axes.plot(steps, values, color=colour, marker=marker if few else None, clip_on=False)
    return float(values[-1])


def step_axis(axes: Axes, records: Records) -> None:
    """An x axis of steps from 0 to the last of the records, logarithmic if it is long."""
    last = max(int(record["step"]) for record in records)
    if last >= _LONG:
        axes.set_xscale("symlog", linthresh=1, linscale=0.3)
        decades = [10**n for n in range(int(np.log10(last)) + 1)]
        ticks = [0, *decades]
        if last > 1.5 * decades[-1]:
            ticks.append(last)
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, last)


def _end_labels(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Names of lines at their right ends, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    per_pixel = (high - low) / _HEIGHT
    place = -np.inf
    for value, words, colour in sorted(ends):
        place = max(value, place + 15 * per_pixel)
        axes.annotate(
            words,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=style.SMALL,
            annotation_clip=False,
        )


def _single(
    record: Mapping[str, Any], validation: Records, natural: float | None, measure: Measure
) -> Figure:
    bars: list[tuple[str, float, str]] = []
    if natural is not None:
        bars.append(("natural images, natural labels", natural, style.MUTED))
    for part, name, colour, _ in _PARTS:
        source = (validation[-1] if validation else None) if part == "validation" else record
        score = Score.read(source or {}, part)
        if score is not None:
            bars.append((name, score.shown, colour))
    page = Page(740, 4 * LINE + 30 * len(bars) + 30)
    page.text(f"{_capital(measure.name)}; loss {record['loss']:.4g}", 16, 12, fontweight="bold")
    axes = page.axes(210, 2 * LINE + 6, 440, 30 * len(bars))
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    for row, (_, value, colour) in enumerate(bars):
        axes.barh(row, value, 0.6, color=colour)
        axes.text(
            max(value, 0),
            row,
            f"  {measure.digits(value)}",
            va="center",
            fontsize=style.SMALL,
            clip_on=False,
        )
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    if measure.factor == 100.0:
        axes.set_xlim(0, 100)
    return page.figure
