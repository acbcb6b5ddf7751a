"""Accuracy of finite networks trained on a distilled set, against the step."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kipper.common.numbers import percent
from kipper.server.figures import style
from kipper.server.figures.curve import step_axis
from kipper.server.figures.style import LINE, Page
from kipper.server.records import Json

_LEFT, _WIDTH, _HEIGHT = 64, 640, 380


@style.styled
def transfer_figure(report: Json, curve: Sequence[Json]) -> Figure:
    """The mean over networks in a band from worst to best, and a level line for kernel regression.

    Args:
        report: the content of transfer.json.
        curve: records of transfer_curve.jsonl, the same steps for each seed.
    """
    page = Page(_LEFT + _WIDTH + 30, 6 * LINE + _HEIGHT + 54)
    page.text("Accuracy of networks trained on a distilled set", _LEFT, 10, fontweight="bold")
    page.text(_conditions(report), _LEFT, 10 + LINE, color=style.MUTED)
    axes = page.axes(_LEFT, 6 * LINE + 4, _WIDTH, _HEIGHT)
    regression = report["kernel_regression"]
    axes.axhline(
        100 * regression["test_accuracy"],
        color=style.MUTED,
        linestyle=(0, (4, 2)),
        label=f"kernel regression ({regression['architecture']}, {regression['kernel'].upper()}) "
        f"on the same set: {percent(regression['test_accuracy'])}",
    )
    sizes = {"test": report["curve_test_size"], "validation": report["curve_validation_size"]}
    for part, colour in (("validation", style.GREEN), ("test", style.BLUE)):
        if sizes[part]:
            _draw_band(axes, curve, f"{part}_accuracy", colour, f"{sizes[part]:,} {part} images")
    _draw_end(axes, report)
    step_axis(axes, report["steps"], "steps of gradient descent")
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy (%)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.3, labelspacing=0.35)
    return page.figure


def _conditions(report: Json) -> str:
    networks = f"{report['seeds']} network" + ("s" if report["seeds"] > 1 else "")
    loss = {"mse": "mean squared error", "cross_entropy": "cross-entropy"}[report["loss"]]
    return (
        f"{networks}: {report['architecture']} of width {report['width']:,}, {loss}, "
        f"{report['support_size']:,} images of {style.shortened(report['dataset'])}"
    )


def _draw_band(axes: Axes, curve: Sequence[Json], part: str, colour: str, name: str) -> None:
    steps = sorted({record["step"] for record in curve})
    values = [[100 * r[part] for r in curve if r["step"] == step] for step in steps]
    low, high = [min(v) for v in values], [max(v) for v in values]
    axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    means = [float(np.mean(v)) for v in values]
    axes.plot(steps, means, color=colour, marker="o", markersize=3, label=name)


def _draw_end(axes: Axes, report: Json) -> None:
    """The accuracy on all test images, with its spread."""
    mean, spread = 100 * report["test_accuracy"], report["test_accuracy_spread"]
    around = "" if spread is None else f" ± {100 * spread:.1f}"
    axes.errorbar(
        [report["steps"]],
        [mean],
        yerr=None if spread is None else [100 * spread],
        color=style.VERMILION,
        marker="D",
        markersize=5,
        capsize=4,
        linestyle="none",
        zorder=5,
        clip_on=False,
        label=f"all {report['test_size']:,} test images: {mean:.1f}{around} %",
    )
