"""The figure of `kipper evaluate --natural`: accuracy against the number of natural images."""

import pathlib
from typing import Any, BinaryIO

from kipper.common.errors import UserError
from kipper.common.files import write_atomically

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
    _draw_curve(axes, entries, sizes)
    if "distilled" in report:
        _draw_distilled(axes, report, sizes)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="number of images", ylabel="test accuracy, %", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png", dpi=120)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise UserError(f"--figure={path} cannot be written ({error.strerror}).") from error


def _draw_curve(axes: Any, entries: list[dict[str, Any]], sizes: list[int]) -> None:
    draws = len(entries[0]["test_accuracies"])
    label = "natural images" + (f", mean and spread of {draws} draws" if draws > 1 else "")
    axes.errorbar(
        sizes,
        [100 * entry["test_accuracy"] for entry in entries],
        yerr=[100 * (entry["test_accuracy_spread"] or 0) for entry in entries],
        marker="o",
        capsize=3,
        color=_NATURAL,
        label=label,
    )


def _draw_distilled(axes: Any, report: dict[str, Any], sizes: list[int]) -> None:
    """The line, the set itself on it, and where the curve crosses it."""
    distilled, needed = report["distilled"], report["natural_images_needed"]
    size, accuracy = distilled["support_size"], 100 * distilled["test_accuracy"]
    axes.axhline(accuracy, color=_DISTILLED, linestyle="--", linewidth=1)
    axes.plot(size, accuracy, "D", color=_DISTILLED, label=f"{size:,} distilled: {accuracy:.1f} %")
    if needed is not None and needed > min(sizes):
        axes.plot([needed, needed], [axes.get_ylim()[0], accuracy], ":", color="gray")
        axes.annotate(
            f"{needed:,} natural images",
            (needed, accuracy),
            xytext=(-6, 6),
            textcoords="offset points",
            ha="right",
            color="gray",
        )
