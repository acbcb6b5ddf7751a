"""Score against the number of natural images, beside the score of a distilled set."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kipper.server.figures import style
from kipper.server.figures.style import LINE, Page
from kipper.server.figures.support_sizes import size_axis
from kipper.server.measures import ACCURACY, R_SQUARED, Measure
from kipper.server.records import Json

_LEFT, _WIDTH, _HEIGHT = 64, 640, 400
# Natural images are grey and dashed in every figure.
_NATURAL, _DISTILLED = style.MUTED, style.BLUE


@style.styled
def natural_figure(report: Json, shared: str) -> Figure:
    """Natural images as a curve, and a line from the distilled set to where they match its score.

    Args:
        report: the report of `kipper evaluate --natural`: `natural`, and with a distilled set also
            `distilled`, `natural_images_needed` and `finding`.
        shared: a subtitle, for what all scores have in common.
    """
    entries = sorted(report["natural"], key=lambda entry: entry["support_size"])
    measure = ACCURACY if "test_accuracy" in entries[0] else R_SQUARED
    page = Page(_LEFT + _WIDTH + 30, 5 * LINE + _HEIGHT + 50)
    title = f"Test {measure.name} against the number of images"
    page.text(title, _LEFT, 10, fontweight="bold")
    page.text(shared, _LEFT, 10 + LINE, color=style.MUTED)
    page.text(report.get("finding", ""), _LEFT, 10 + 2 * LINE)
    axes = page.axes(_LEFT, 5 * LINE, _WIDTH, _HEIGHT)
    _draw_natural(axes, entries, measure)
    sizes = [entry["support_size"] for entry in entries]
    distilled = report.get("distilled")
    size_axis(axes, sorted({*sizes, *([distilled["support_size"]] if distilled else [])}), "images")
    if distilled:
        _draw_distilled(axes, distilled, report["natural_images_needed"], measure)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderpad=0, borderaxespad=0.8, ncols=2)
    axes.set_ylabel(f"test {measure.name}")
    return page.figure


def _draw_natural(axes: Axes, entries: Sequence[Json], measure: Measure) -> None:
    spreads = [entry[f"test_{measure.key}_spread"] for entry in entries]
    axes.errorbar(
        [entry["support_size"] for entry in entries],
        [measure.factor * entry[f"test_{measure.key}"] for entry in entries],
        yerr=[measure.factor * (spread or 0.0) for spread in spreads],
        color=_NATURAL,
        marker="o",
        linestyle=(0, (4, 2)),
        elinewidth=1,
        capsize=3,
        label="natural images" + (", mean and spread of draws" if spreads[0] is not None else ""),
    )


def _draw_distilled(axes: Axes, distilled: Json, needed: int | None, measure: Measure) -> None:
    """The set, and a line from it to where the curve reaches its score, or to the end."""
    size, value = distilled["support_size"], measure.factor * distilled[f"test_{measure.key}"]
    label = f"{size:,} distilled images, {measure.text(value)}"
    axes.plot(size, value, "D", color=_DISTILLED, markersize=7, label=label, clip_on=False)
    low, last = axes.get_ylim()[0], axes.get_xlim()[1]
    axes.plot([size, needed or last], [value, value], color=_DISTILLED, linewidth=1)
    if needed is not None:
        axes.plot([needed, needed], [low, value], color=_DISTILLED, linewidth=1)
        axes.set_ylim(bottom=low)
        axes.annotate(
            f"{needed:,}",
            (needed, low),
            xytext=(4, 6),
            textcoords="offset points",
            color=_DISTILLED,
        )
