"""Figures of `kipper transfer`: learning curves of networks, and accuracies of many kernels."""

import pathlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kipper.common.files import write_atomically
from kipper.server.figures import style
from kipper.server.figures.style import LINE, SMALL, Page

_LEFT, _WIDTH, _HEIGHT, _RIGHT = 64, 640, 380, 30
_ROW, _NAMES = 44, 92  # pixels of an architecture's two bars, and beside them


def draw_transfer(path: pathlib.Path, report: dict[str, Any], curve: list[dict[str, Any]]) -> None:
    """Writes `transfer_figure` as a PNG, atomically."""
    _write(path, transfer_figure(report, curve))


def draw_all_kernels(path: pathlib.Path, report: dict[str, Any]) -> None:
    """Writes `all_kernels_figure` as a PNG, atomically."""
    _write(path, all_kernels_figure(report))


def _write(path: pathlib.Path, figure: Figure) -> None:
    pixels = style.png(figure)

    def write(file: BinaryIO) -> None:
        file.write(pixels)

    write_atomically(path, write)


@style.styled
def transfer_figure(report: dict[str, Any], curve: list[dict[str, Any]]) -> Figure:
    """Accuracy against step: the mean over networks, and from the worst of them to the best.

    Args:
        report: what transfer.json holds.
        curve: records of transfer_curve.jsonl, the same steps for each seed.
    """
    page = Page(_LEFT + _WIDTH + _RIGHT, 6 * LINE + _HEIGHT + 50)
    networks = f"{report['seeds']} network{'s' if report['seeds'] > 1 else ''}"
    page.text(
        f"{report['architecture']} of width {report['width']}, trained on "
        f"{report['support_size']} distilled images of {style.shortened(report['dataset'], 24)} "
        f"({report['loss'].replace('_', ' ')}, {networks})",
        _LEFT,
        10,
        fontweight="bold",
    )
    axes = page.axes(_LEFT, 6 * LINE, _WIDTH, _HEIGHT)
    regression = report["kernel_regression"]
    axes.axhline(
        100 * regression["test_accuracy"],
        color=style.MUTED,
        linestyle=(0, (4, 2)),
        label=f"kernel regression ({regression['architecture']}, {regression['kernel'].upper()}) "
        f"on the same set: {100 * regression['test_accuracy']:.1f} %",
    )
    sizes = {"test": report["curve_test_size"], "validation": report["curve_validation_size"]}
    for part, colour in (("validation", style.GREEN), ("test", style.BLUE)):
        if sizes[part]:
            _band(axes, curve, f"{part}_accuracy", colour, f"{sizes[part]:,} {part} images")
    _end(axes, report)
    steps = sorted({record["step"] for record in curve})
    axes.set_xscale("symlog", linthresh=1, linscale=0.3)
    axes.set_xlim(-0.1, 1.1 * steps[-1])
    axes.set_xticks(_ticks(steps[-1]), [f"{tick:,}" for tick in _ticks(steps[-1])])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 100)
    axes.set(xlabel="steps of gradient descent", ylabel="accuracy, %")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.3, labelspacing=0.35)
    return page.figure


def _band(axes: Axes, curve: Sequence[dict[str, Any]], part: str, colour: str, images: str) -> None:
    steps = sorted({record["step"] for record in curve})
    values = [[100 * r[part] for r in curve if r["step"] == step] for step in steps]
    axes.fill_between(
        steps, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.2, lw=0
    )
    axes.plot(
        steps, [np.mean(v) for v in values], color=colour, marker="o", markersize=3, label=images
    )


def _end(axes: Axes, report: dict[str, Any]) -> None:
    """The accuracy on all test images, with its spread."""
    mean, spread = 100 * report["test_accuracy"], 100 * (report["test_accuracy_spread"] or 0)
    size = f"all {report['test_size']:,} test images"
    around = f" ± {spread:.1f}" if spread else ""
    axes.errorbar(
        [report["steps"]],
        [mean],
        yerr=[spread] if spread else None,
        color=style.VERMILION,
        marker="D",
        markersize=5,
        capsize=4,
        linestyle="none",
        zorder=5,
        label=f"{size}: {mean:.1f}{around} %",
    )


def _ticks(last: int) -> list[int]:
    """0, 1, 10, … and the last step, unless it is close to one of them."""
    powers = [10**k for k in range(len(str(last)))]
    return [0, *[p for p in powers if p <= last / 2.5], last]


@style.styled
def all_kernels_figure(report: dict[str, Any]) -> Figure:
    """Two bars an architecture, one for each kernel; what was left out is said beside the name.

    Args:
        report: what all_kernels.json holds.
    """
    kernels = report["kernels"]
    names = list(dict.fromkeys(kernel["architecture"] for kernel in kernels))
    height = _ROW * len(names)
    page = Page(_NAMES + _WIDTH + _RIGHT, 3 * LINE + height + 50)
    page.text(
        f"Kernel regression on {report['support_size']} distilled images of "
        f"{style.shortened(report['dataset'], 24)}, by kernel",
        _NAMES,
        10,
        fontweight="bold",
    )
    axes = page.axes(_NAMES, 3 * LINE, _WIDTH, height)
    made = report["made_with"]
    for kind, colour, offset in (("ntk", style.BLUE, -0.19), ("nngp", style.SKY, 0.19)):
        rows = [k for k in kernels if k["kernel"] == kind]
        places = [names.index(k["architecture"]) + offset for k in rows]
        values = [100 * k.get("test_accuracy", 0.0) for k in rows]
        axes.barh(places, values, height=0.34, color=colour, label=kind.upper())
        for kernel, place, value in zip(rows, places, values, strict=True):
            words = "left out" if "left_out" in kernel else f"{value:.1f}"
            axes.text(
                value + 0.8,
                place,
                words,
                va="center",
                fontsize=SMALL,
                color=style.MUTED if "left_out" in kernel else style.INK,
            )
            if kernel["architecture"] == made["architecture"] and kind == made["kernel"]:
                _own(axes, place, value)
    axes.set_yticks(range(len(names)), [style.shortened(name, 14) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel(f"test accuracy, % of {report['test_size']:,} images")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=2, borderaxespad=0.3)
    return page.figure


def _own(axes: Axes, place: float, value: float) -> None:
    """Marks the kernel that the set was distilled with, in its bar or, if that is short, beside."""
    inside = value > 25
    axes.text(
        1.0 if inside else value + 8.0,
        place,
        "distilled with it",
        va="center",
        fontsize=SMALL,
        color="white" if inside else style.INK,
        fontweight="bold",
    )
