"""The figure of `kipper evaluate --natural`: the score against the number of natural images."""

import pathlib
from typing import Any, BinaryIO

from kipper.common.errors import UserError
from kipper.common.files import write_atomically
from kipper.server.figures.measures import ACCURACY, R_SQUARED, Measure

_NATURAL, _DISTILLED = "tab:blue", "tab:orange"


def draw_natural(path: pathlib.Path, report: dict[str, Any], title: str) -> None:
    """Writes a PNG: natural images as a curve, the distilled set as a horizontal line.

    Args:
        path: of the PNG.
        report: of `evaluate_natural`: `natural`, and with a distilled set also `distilled` and
            `natural_images_needed`.
        title: what all was measured by.

    Raises:
        UserError: the path cannot be written.
    """
    # The object interface leaves the user's own figures and backend alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    entries = sorted(report["natural"], key=lambda entry: entry["support_size"])
    sizes = [entry["support_size"] for entry in entries]
    measure = ACCURACY if "test_accuracy" in entries[0] else R_SQUARED
    _draw_curve(axes, entries, sizes, measure)
    if "distilled" in report:
        _draw_distilled(axes, report, sizes, measure)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="number of images", ylabel=f"test {measure.name}", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png", dpi=120)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise UserError(f"--figure={path} cannot be written ({error.strerror}).") from error


def _draw_curve(
    axes: Any, entries: list[dict[str, Any]], sizes: list[int], measure: Measure
) -> None:
    draws = len(entries[0].get("test_accuracies") or entries[0]["test_r2s"])
    label = "natural images" + (f", mean and spread of {draws} draws" if draws > 1 else "")
    axes.errorbar(
        sizes,
        [measure.of(entry, "test") for entry in entries],
        yerr=[measure.factor * (entry[f"test_{measure.key}_spread"] or 0) for entry in entries],
        marker="o",
        capsize=3,
        color=_NATURAL,
        label=label,
    )


def _draw_distilled(axes: Any, report: dict[str, Any], sizes: list[int], measure: Measure) -> None:
    """The line, the set itself on it, and where the curve crosses it."""
    distilled, needed = report["distilled"], report["natural_images_needed"]
    size, value = distilled["support_size"], measure.of(distilled, "test")
    axes.axhline(value, color=_DISTILLED, linestyle="--", linewidth=1)
    label = f"{size:,} distilled: {measure.text(value)}"
    axes.plot(size, value, "D", color=_DISTILLED, label=label)
    if needed is not None and needed > min(sizes):
        axes.plot([needed, needed], [axes.get_ylim()[0], value], ":", color="gray")
        axes.annotate(
            f"{needed:,} natural images",
            (needed, value),
            xytext=(-6, 6),
            textcoords="offset points",
            ha="right",
            color="gray",
        )
