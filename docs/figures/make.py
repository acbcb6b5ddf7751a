"""Draws the figures of the documents: python docs/figures/make.py [FOLDER].

The default folder is the script's own. Bands and tilings come from the sources, and measurements
from kernel_scaling.json and accuracy.json beside it. The same version of matplotlib writes the same
bytes, which tests/test_documents_figures.py checks.
"""

import json
import math
import pathlib
import sys
from collections.abc import Callable

from diagrams import Diagram, as_svg
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from kipper.common.architecture import architecture_named
from kipper.server.figures.style import BLUE, GREEN, INK, MUTED, ORANGE, VERMILION
from kipper.server.tiling import Tiling, spans, triangle
from kipper.workers.bands import BandedNetwork, banded_network


def regression() -> Diagram:
    """From images to the loss and back, and who computes which part."""
    page = Diagram(760, 250)
    page.area(150, 8, 150, 234, "workers, in blocks")
    page.area(316, 8, 436, 234, "coordinator, in float64")
    images = page.box(16, 52, 110, 38, "images X", BLUE)
    targets = page.box(16, 142, 110, 38, "targets X_t", MUTED)
    k_ss = page.box(165, 52, 120, 38, "K = k(X, X)", ORANGE)
    k_ts = page.box(165, 142, 120, 38, "M = k(X_t, X)", ORANGE)
    factor = page.box(332, 52, 136, 38, "A = K + λ tr(K)/n I", INK)
    alpha = page.box(506, 52, 90, 38, "α = A⁻¹ y", INK)
    predicted = page.box(506, 142, 90, 38, "P = M α", INK)
    loss = page.box(630, 142, 112, 38, "L = ½ mean\n(P − y_t)²", VERMILION)
    labels = page.box(630, 52, 112, 38, "labels y", BLUE)
    for start, end in (
        (images.right, k_ss.left),
        (images.at(1, 0.9), k_ts.at(0, 0.2)),
        (targets.right, k_ts.left),
        (k_ss.right, factor.left),
        (factor.right, alpha.left),
        (labels.left, alpha.right),
        (alpha.bottom, predicted.top),
        (k_ts.right, predicted.left),
        (predicted.right, loss.left),
    ):
        page.arrow(start, end)
    # Back to the images, below the targets.
    back = [loss.bottom, (loss.bottom[0], 216), (6, 216), (6, images.left[1]), images.left]
    page.path(back, "dL/dK and dL/dM to the workers, dL/dX from them", (430, 216), VERMILION)
    return page


def _convnet() -> BandedNetwork:
    network = banded_network(architecture_named("convnet"), 32, 32)
    assert network is not None
    return network


def bands() -> Diagram:
    """The pixel pairs that a pooled network needs, along one image dimension."""
    network = _convnet()
    page = Diagram(760, 250)
    titles = (*(f"stage {i + 1}" for i in range(len(network.stages))), "read-out")
    # One entry of each map, and the first of the four entries that a pool adds up to it.
    entries = {4: (2, 2), 8: (4, 5), 16: (8, 11), 32: (16, 23)}
    pools = {8: (4, 4), 16: (8, 10), 32: (16, 22)}
    left = 36.0
    for title, (_, side), (_, band) in zip(titles, network.sizes, network.bands, strict=True):
        width = {32: 192.0, 16: 160.0, 8: 128.0, 4: 112.0}[side]
        top = 222 - width
        page.text(left, top - 30, f"{title}: {side} pixels", weight="bold", size=8.5)
        page.text(left, top - 16, f"|d| ≤ {band}" if band else "d = 0", size=8, color=MUTED)
        page.band(left, top, width, side, band, entries[side], pools.get(side))
        page.text(left + width / 2, 228, "a, first image", size=8, ha="center")
        left += width + 38
    page.text(20, 126, "a′, second image", size=8, rotation=90, va="center", ha="center")
    return page


def stages() -> Diagram:
    """The order in which the banded engines compute a kernel element."""
    network = _convnet()
    page = Diagram(760, 222)
    left = 16.0
    for number, (stage, size, band) in enumerate(
        zip(network.stages, network.sizes, network.bands, strict=False)
    ):
        offsets = 2 * band[1] + 1
        page.text(left, 8, f"stage {number + 1}: {size[0]} × {size[1]} pixels", weight="bold")
        page.text(left, 26, f"{offsets} × {offsets} offsets, one by one", color=MUTED, size=8)
        for depth in (2, 1, 0):
            page.plane(left + 10 * depth, 64 - 6 * depth, 92, 110, GREEN if depth == 0 else None)
        for layer in range(stage.convs):
            words = "convolution:\nbox sum\nReLU: k₀, k₁"
            page.text(left + 46, 70 + 52 * layer, words, size=8, ha="center", color="white")
        page.text(left, 182, "whole stage at one offset,\nthen the next offset", size=8)
        page.arrow((left + 116, 118), (left + 182, 118))
        page.text(left + 152, 76, "pool adds\nd = 2D − 1,\n2D, 2D + 1", size=8, ha="center")
        left += 192
    page.box(left, 99, 130, 38, "read-out: d = 0,\nmean over pixels", VERMILION)
    return page


def tiling() -> Diagram:
    """Blocks of K_ss and K_ts, numbered in summation order."""
    support, targets, sides = 100, 600, Tiling(support=32, target=256)
    page = Diagram(760, 232)
    left, top, scale = 16.0, 34.0, 1.72
    page.text(left, 8, "K(X, X): each pair once", weight="bold")
    number = 0
    for rows, columns in triangle(support, sides.support):
        if rows != columns:
            page.tile(left, top, (scale, scale), columns, rows, "", None)
        page.tile(left, top, (scale, scale), rows, columns, str(number), BLUE)
        number += 1
    below = top + scale * support + 6
    page.text(left, below, f"{support} × {support} support images", size=8)
    left = 226.0
    page.text(left, 8, "K(X, X_t): the same rows, targets across", weight="bold")
    for columns in spans(targets, sides.target):
        for rows in spans(support, sides.support):
            page.tile(left, top, (0.86, scale), rows, columns, str(number), ORANGE)
            number += 1
    page.text(left, below, f"{support} support images × {targets} targets of a step", size=8)
    return page


def step() -> Diagram:
    """The messages of a step."""
    page = Diagram(760, 446)
    kip, pool, first, second = page.lanes(
        ("coordinator", "pool and scheduler", "worker 0", "worker 1"), 34, 438
    )
    for y, start, end, words, colour in (
        (62, kip, pool, "step k: images, blocks", INK),
        (84, pool, first, "PutSupport, PutRows", MUTED),
        (106, pool, second, "PutSupport, PutRows", MUTED),
        (130, pool, first, "Block 0, Block 1", BLUE),
        (152, pool, second, "Block 2, Block 3", BLUE),
        (174, first, pool, "KernelBlock 0", BLUE),
        (196, pool, first, "Block 4", BLUE),
        (218, second, pool, "KernelBlock 2, …", BLUE),
        (240, pool, kip, "K_ss, K_ts", INK),
        (312, kip, pool, "dL/dK, dL/dM", INK),
        (334, pool, first, "BlockVjp 0", ORANGE),
        (356, pool, second, "BlockVjp 2", ORANGE),
        (378, first, pool, "ImageCotangents 0, …", ORANGE),
        (400, pool, kip, "dL/dX", INK),
    ):
        page.message(y, start, end, words, colour)
    page.note(kip, 276, "regression: loss,\ndL/dK, dL/dM, dL/dy", VERMILION)
    page.note(kip, 424, "Adam: images of step k + 1", VERMILION)
    middle = (first + second) / 2
    page.note(middle, 276, "meanwhile: blocks of the evaluation,\nrows of step k + 1", MUTED)
    return page


def block_states() -> Diagram:
    """The states of a block in the scheduler."""
    page = Diagram(760, 264)
    waiting = page.box(110, 96, 110, 38, "waiting", BLUE)
    out = page.box(350, 96, 120, 38, "at a worker", ORANGE)
    answered = page.box(606, 96, 140, 38, "answered,\nunconfirmed", MUTED)
    accepted = page.box(606, 210, 140, 38, "accepted", GREEN)
    quarantined = page.box(350, 210, 120, 38, "quarantined;\nrun aborted", VERMILION)
    withdrawn = page.box(110, 210, 110, 38, "withdrawn", MUTED)
    page.arrow((10, 115), waiting.left, "queued")
    page.arrow(waiting.at(1, 0.3), out.at(0, 0.3), "SendBlock")
    lost = "lost, failed,\nworker gone\nor past its deadline"
    page.arrow(out.at(0, 0.7), waiting.at(1, 0.7), lost, shift=(0, 24))
    page.arrow(out.at(1, 0.3), answered.at(0, 0.3), "an answer")
    page.arrow(answered.at(0, 0.7), out.at(1, 0.7), "another worker", shift=(0, 10))
    page.arrow(out.at(0.95, 1), accepted.at(0, 0.4), "the first answer", shift=(0, 0))
    page.arrow(answered.bottom, accepted.top, "two agree, or all\nothers are gone", shift=(0, -6))
    page.arrow(out.bottom, quarantined.top, "failed on three\nworkers", shift=(0, 0))
    page.arrow(waiting.bottom, withdrawn.top, "no longer needed", shift=(0, 0))
    x, y = out.at(0.3, 0)
    loop = [(x, y), (x, 56), (x + 48, 56), (x + 48, y)]
    page.path(loop, "late: a copy goes to an idle worker, the first answer wins", (x + 24, 44))
    return page


def worker_states() -> Diagram:
    """The states of a worker in the scheduler."""
    page = Diagram(760, 314)
    joining = page.box(16, 134, 100, 38, "joining", MUTED)
    idle = page.box(240, 134, 100, 38, "idle", BLUE)
    working = page.box(450, 134, 100, 38, "working", GREEN)
    stalled = page.box(646, 134, 100, 38, "stalled", ORANGE)
    resting = page.box(345, 38, 100, 38, "resting", ORANGE)
    aside = page.box(646, 38, 100, 38, "set aside", VERMILION)
    draining = page.box(240, 238, 100, 38, "draining", MUTED)
    gone = page.box(450, 238, 100, 38, "gone", VERMILION)
    page.arrow(joining.right, idle.left, "Configure, Probe\nanswered", shift=(0, -16))
    page.arrow(idle.at(1, 0.3), working.at(0, 0.3), "SendBlock")
    page.arrow(working.at(0, 0.7), idle.at(1, 0.7), "answer", shift=(0, 10))
    page.arrow(working.at(1, 0.3), stalled.at(0, 0.3), "deadline")
    page.arrow(
        stalled.at(0, 0.7), working.at(1, 0.7), "an answer: it\nmay work again", shift=(0, 16)
    )
    page.arrow(working.at(0.3, 0), resting.at(1, 0.7), "a message\nwas lost", shift=(-20, 4))
    page.arrow(resting.at(0, 0.7), idle.top, "pause over", shift=(-26, 0))
    page.arrow(
        working.at(0.8, 0), aside.left, "six failures in a row,\nothers succeed", shift=(0, 0)
    )
    page.arrow(idle.bottom, draining.top, "Leave", shift=(0, 0))
    page.arrow(draining.right, gone.left, "no blocks left")
    page.arrow(working.bottom, gone.top, "dies, or is\noutvoted", shift=(0, 0))
    page.arrow(stalled.bottom, gone.at(1, 0.4), "silent for\n90 s more", shift=(6, 0))
    x = joining.bottom[0]
    back = [gone.bottom, (gone.bottom[0], 296), (x, 296), joining.bottom]
    page.path(back, "Hello again; an outvoted worker is refused", (270, 296))
    again = [aside.top, (aside.top[0], 16), (x, 16), joining.top]
    page.path(again, "Hello of another process of its name, after a pause", (330, 16))
    return page


def kernel_scaling() -> Diagram:
    """How the cost of a pair grows, as `benchmarks/kernel_scaling.py --json` measured it."""
    rows = json.loads((pathlib.Path(__file__).parent / "kernel_scaling.json").read_text())["rows"]
    by_side = [row for row in rows if row["section"] == "side"]
    by_pairs = [row for row in rows if row["section"] == "pairs"]
    sides = [int(row["label"].split(" ")[0]) for row in by_side]
    counts = [math.prod(map(int, row["label"].split(" x "))) for row in by_pairs]
    page = Diagram(760, 270)
    panels = (
        ("milliseconds per pair", "image side, convnet", sides, by_side, "ms"),
        ("megabytes of a block", "image side, convnet", sides, by_side, "mb"),
        ("milliseconds per pair", "pairs in a call, 8 x 8", counts, by_pairs, "ms"),
    )
    for number, (title, across, places, measured, unit) in enumerate(panels):
        axes = page.axes(52 + 252 * number, 40, 190, 170, xscale="log", yscale="log")
        for name, words, colour in (("forward", "K", BLUE), ("vjp", "K with vjp", VERMILION)):
            values = [max(row[f"{name}_{unit}"], 0.1 if unit == "mb" else 0.0) for row in measured]
            axes.plot(places, values, "o-", color=colour, label=words)
        axes.set_title(title)
        axes.set_xlabel(across)
        axes.xaxis.set_major_locator(FixedLocator(places))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.legend()
    return page


def accuracy() -> Diagram:
    """Test accuracy of ten CIFAR-10 images by kernel pairs, as runs of docs/results.md had it."""
    curves = json.loads((pathlib.Path(__file__).parent / "accuracy.json").read_text())
    page = Diagram(760, 276)
    axes = page.axes(60, 36, 470, 200, xscale="log")
    for curve, colour in zip(curves, (VERMILION, BLUE, GREEN), strict=True):
        pairs = [curve["pairs_per_step"] * step / 1e6 for step in curve["steps"]]
        axes.plot(pairs, curve["accuracy"], "o-", color=colour, label=curve["name"])
    axes.axhline(63.4, color=MUTED, linestyle="--", label="published, up to 50,000 steps")
    axes.set_title("test accuracy, per cent")
    axes.set_xlabel("millions of kernel pairs in steps, each with its gradient")
    axes.xaxis.set_major_locator(FixedLocator([0.2, 0.5, 1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
    return page


FIGURES: tuple[Callable[[], Diagram], ...] = (
    regression,
    bands,
    stages,
    tiling,
    step,
    block_states,
    worker_states,
    kernel_scaling,
    accuracy,
)


def main(folder: pathlib.Path) -> None:
    """Writes every figure as NAME.svg."""
    for figure in FIGURES:
        (folder / f"{figure.__name__}.svg").write_bytes(as_svg(figure))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
