"""Accuracy of one distilled set with the kernels of many architectures."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kipper.server.figures import style
from kipper.server.figures.style import LINE, SMALL, Page
from kipper.server.measures import ACCURACY
from kipper.server.records import Json

_LEFT, _WIDTH, _ROW = 92, 640, 44
_BAR, _KINDS = 0.34, (("ntk", style.BLUE, -0.19), ("nngp", style.SKY, 0.19))


@style.styled
def kernels_figure(report: Json) -> Figure:
    """Two bars per architecture, one for each kernel; the kernel that made the set is marked.

    Args:
        report: the content of all_kernels.json.
    """
    names = list(dict.fromkeys(kernel["architecture"] for kernel in report["kernels"]))
    height = _ROW * len(names)
    page = Page(_LEFT + _WIDTH + 60, 4 * LINE + height + 50)
    page.text("Accuracy of a distilled set with other kernels", _LEFT, 10, fontweight="bold")
    set_of = f"{report['support_size']:,} images of {style.shortened(report['dataset'])}"
    page.text(f"kernel regression, {set_of}", _LEFT, 10 + LINE, color=style.MUTED)
    axes = page.axes(_LEFT, 4 * LINE, _WIDTH, height)
    for kind, colour, offset in _KINDS:
        rows = [kernel for kernel in report["kernels"] if kernel["kernel"] == kind]
        places = [names.index(kernel["architecture"]) + offset for kernel in rows]
        values = [100 * kernel.get("test_accuracy", 0.0) for kernel in rows]
        axes.barh(places, values, height=_BAR, color=colour, label=kind.upper())
        for kernel, place, value in zip(rows, places, values, strict=True):
            left_out = "left_out" in kernel
            _say(axes, value, place, "left out" if left_out else ACCURACY.amount(value), left_out)
            if {k: kernel[k] for k in ("architecture", "kernel")} == report["made_with"]:
                _mark(axes, value, place)
    axes.set_yticks(range(len(names)), [style.shortened(name, _LEFT - 12) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.set_xlabel(f"test accuracy (%), {report['test_size']:,} images")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=2, borderaxespad=0.3)
    return page.figure


def _say(axes: Axes, value: float, place: float, words: str, faint: bool) -> None:
    colour = style.MUTED if faint else style.INK
    axes.text(value + 0.8, place, words, va="center", fontsize=SMALL, color=colour)


def _mark(axes: Axes, value: float, place: float) -> None:
    """Marks the kernel that made the set, in its bar or, if that is short, beside it."""
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
