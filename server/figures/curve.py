"""Loss and score against the step."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from kipper.common.numbers import significant
from kipper.server.figures import style
from kipper.server.figures.style import LINE, Page
from kipper.server.measures import ACCURACY, Score
from kipper.server.records import Evaluation, Validation

_LEFT, _WIDTH, _RIGHT = 64, 640, 150
_HEIGHT = 230
# An axis of at least this many steps is logarithmic, because most happens in the first steps.
_LONG = 30

_Points = Sequence[tuple[int, float]]  # step and value


@style.styled
def curve_figure(
    evaluations: Sequence[Evaluation], validations: Sequence[Validation], natural: Score | None
) -> Figure:
    """The training loss above the scores, each against the number of gradient steps.

    A single evaluation, as of Label Solve, is drawn as one bar per score.

    Args:
        evaluations: at least one.
        validations: may be empty.
        natural: the score of natural images with natural labels, if known.
    """
    test = [(each.step, each.test) for each in evaluations if each.test]
    held_out = [(each.step, each.validation) for each in validations]
    train = [(each.step, each.train) for each in evaluations if each.train]
    lines = (
        ("test", style.BLUE, "o", test),
        ("held out", style.GREEN, "s", held_out),
        ("training batch", style.VERMILION, "^", train),
    )
    if len(evaluations) == 1:
        last = [(name, scores[-1][1], colour) for name, colour, _, scores in lines if scores]
        return _bars(evaluations[0].loss, last, natural)
    page = Page(_LEFT + _WIDTH + _RIGHT, 3 * LINE + 2 * _HEIGHT + 70)
    losses = page.axes(_LEFT, 2 * LINE, _WIDTH, _HEIGHT)
    _draw(losses, [(each.step, each.loss) for each in evaluations], style.BLUE, "o")
    title = f"Loss on each step's target images{style.logarithmic(losses)}"
    page.text(title, _LEFT, LINE - 8, fontweight="bold")
    axes = page.axes(_LEFT, 4 * LINE + _HEIGHT + 10, _WIDTH, _HEIGHT)
    title = _title([scores[-1][1] for _, _, _, scores in lines if scores])
    page.text(title, _LEFT, 3 * LINE + _HEIGHT + 2, fontweight="bold")
    ends = []
    for name, colour, marker, scores in lines:
        if scores:
            _draw(axes, [(step, score.shown) for step, score in scores], colour, marker)
            ends.append((scores[-1][1], name, colour))
    if natural is not None:
        axes.axhline(natural.shown, color=style.INK, linestyle=(0, (4, 3)), linewidth=1.2)
        ends.append((natural, "natural", style.INK))
    style.number_ticks(axes)
    for each in (losses, axes):
        step_axis(each, max(evaluation.step for evaluation in evaluations), "step")
    losses.tick_params(labelbottom=False)
    losses.set_xlabel("")
    _end_labels(axes, ends)
    return page.figure


def _title(scores: Sequence[Score]) -> str:
    name = scores[0].measure.name if scores else ACCURACY.name
    return name[:1].upper() + name[1:]


def _draw(axes: Axes, points: _Points, colour: str, marker: str) -> None:
    few = len(points) <= 40
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=colour, marker=marker if few else None, clip_on=False)


def step_axis(axes: Axes, last: int, what: str) -> None:
    """An x axis from step 0 to the last, logarithmic if it is long; `what` are its steps."""
    axes.set_xlabel(what + (style.LOGARITHMIC if last >= _LONG else ""))
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


def _end_labels(axes: Axes, ends: Sequence[tuple[Score, str, str]]) -> None:
    """Names and last values of lines at their right ends, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    per_pixel = (high - low) / _HEIGHT
    place = -np.inf
    for score, name, colour in sorted(ends, key=lambda end: (end[0].shown, end[1])):
        place = max(score.shown, place + 15 * per_pixel)
        axes.annotate(
            f"{name} {score.amount}",
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=style.SMALL,
            annotation_clip=False,
        )


def _bars(loss: float, scores: list[tuple[str, Score, str]], natural: Score | None) -> Figure:
    if natural is not None:
        scores = [("natural images, natural labels", natural, style.MUTED), *scores]
    page = Page(740, 4 * LINE + 30 * len(scores) + 30)
    title = _title([score for _, score, _ in scores])
    page.text(f"{title}; loss {significant(loss)}", 16, 12, fontweight="bold")
    axes = page.axes(210, 2 * LINE + 6, 440, 30 * len(scores))
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    for row, (_, score, colour) in enumerate(scores):
        axes.barh(row, score.shown, 0.6, color=colour)
        words = f"  {score.amount}"
        at = max(score.shown, 0)
        axes.text(at, row, words, va="center", fontsize=style.SMALL, clip_on=False)
        if score.measure is ACCURACY:
            axes.set_xlim(0, 100)
    axes.set_yticks(range(len(scores)), [name for name, _, _ in scores])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    return page.figure
