"""Eigenvalues of K_ss, and its condition number against the step."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kipper.server.figures import curve, style
from kipper.server.figures.style import LINE, Page
from kipper.server.records import Evaluation, Json

_LEFT, _WIDTH, _HEIGHT, _BETWEEN = 70, 380, 300, 84


@style.styled
def spectrum_figure(
    spectra: Sequence[Json], evaluations: Sequence[Evaluation], ridge: float
) -> Figure:
    """The eigenvalues at the first and at the last evaluation, and condition numbers.

    Args:
        spectra: `step` and `eigenvalues` (descending) of each evaluation, at least one.
        evaluations: their condition numbers are drawn if at least two have one.
        ridge: as a share of the mean eigenvalue; the regression adds the product to each.
    """
    numbers = [each for each in evaluations if each.condition_number is not None]
    two = len(numbers) > 1
    width = _LEFT + _WIDTH + (_BETWEEN + _WIDTH + 24 if two else 24)
    page = Page(width, 2 * LINE + _HEIGHT + 52)
    top = 2 * LINE
    axes = page.axes(_LEFT, top, _WIDTH, _HEIGHT)
    if len(spectra) > 1:
        _eigenvalues(axes, spectra[0], style.SKY)
    _eigenvalues(axes, spectra[-1], style.BLUE)
    added = ridge * float(np.mean(spectra[-1]["eigenvalues"]))
    if added > 0:
        axes.axhline(added, color=style.INK, linestyle=(0, (4, 3)), linewidth=1.2, label="ridge")
    title = f"Eigenvalues of the support kernel{style.logarithmic(axes)}"
    page.text(title, _LEFT, LINE - 8, fontweight="bold")
    axes.set_xlabel("number, the largest first")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0.5, len(spectra[-1]["eigenvalues"]) + 0.5)
    axes.legend(loc="upper right")
    if two:
        _condition_numbers(page, numbers, _LEFT + _WIDTH + _BETWEEN, top)
    return page.figure


def _eigenvalues(axes: Axes, record: Json, colour: str) -> None:
    values = np.asarray(record["eigenvalues"], float)
    at = np.arange(1, len(values) + 1)
    name = f"step {record['step']:,}"
    marker = "o" if len(values) <= 50 else None
    positive = np.where(values > 0, values, np.nan)
    axes.plot(at, positive, color=colour, marker=marker, label=name)
    if (values < 0).any():  # rounding errors; a logarithmic axis can show their magnitude
        axes.plot(
            at[values < 0],
            -values[values < 0],
            "o",
            color=colour,
            markerfacecolor="white",
            label=f"{name}: below zero",
        )


def _condition_numbers(page: Page, evaluations: Sequence[Evaluation], left: int, top: int) -> None:
    axes = page.axes(left, top, _WIDTH, _HEIGHT)
    for key, name, colour, marker in (
        ("condition_number", "without ridge", style.BLUE, "o"),
        ("regularised_condition_number", "with ridge", style.VERMILION, "s"),
    ):
        found = [(each.step, getattr(each, key)) for each in evaluations]
        points = [(step, number) for step, number in found if number is not None]
        if points and not _hidden(axes, points):
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=marker if len(points) <= 40 else None,
                label=name,
                clip_on=False,
            )
    title = f"Condition number of the support kernel{style.logarithmic(axes)}"
    page.text(title, left, LINE - 8, fontweight="bold")
    curve.step_axis(axes, max(each.step for each in evaluations), "step")
    if len(axes.get_lines()) > 1:
        axes.legend(loc="best")


def _hidden(axes: Axes, points: list[tuple[int, float]]) -> bool:
    """Whether a line would lie on top of another."""
    values = [value for _, value in points]
    others = [np.asarray(line.get_ydata()) for line in axes.get_lines()]
    return any(len(v) == len(values) and np.allclose(v, values, rtol=0.01) for v in others)
