"""The activity of workers over time: a lane each, and the share that was busy."""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

from kipper.server.figures import style
from kipper.server.figures.style import LINE, Page

_LEFT, _WIDTH, _RIGHT = 120, 840, 24
_SHARE = 70  # height of the curve above the lanes, in pixels
_MOST_WORKERS = 200
_LANES = 480  # desired height of all lanes, in pixels

# In the order of `Activity.kind`.
KINDS = ("kernel blocks", "gradients", "evaluation", "rows sent ahead", "copies and failures")
_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.SKY, "#999999")
_IDLE = (236, 236, 236)
_ABSENT = (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class Activity:
    """The activity of all workers of a run.

    Attributes:
        workers: their names.
        seconds: duration; the times below are from 0 to this.
        worker, kind: those of each of n spans of work: indices (n,) into `workers` and `KINDS`.
        start, stop: those of each span, float64 (n,), seconds.
        connected: when each worker was connected, as (index, start, stop).
        deaths: when and why workers were lost, as (index, seconds, reason).
        blocks: how many of each worker's answers were used, but for rows sent ahead.
    """

    workers: tuple[str, ...]
    seconds: float
    worker: np.ndarray
    kind: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    connected: tuple[tuple[int, float, float], ...]
    deaths: tuple[tuple[int, float, str], ...] = ()
    blocks: tuple[int, ...] = ()

    def busy_seconds(self) -> np.ndarray:
        """Seconds that each worker (rows) spent on each kind (columns)."""
        spent = np.zeros((len(self.workers), len(KINDS)))
        np.add.at(spent, (self.worker, self.kind), self.stop - self.start)
        return spent


@style.styled
def timeline_figure(activity: Activity) -> Figure:
    """A lane per worker, whose pixels mix the colours of their work, and the share that is busy."""
    shown = min(len(activity.workers), _MOST_WORKERS)
    lane = int(np.clip(_LANES // max(1, shown), 2, 22))
    gap = 2 if lane > 6 else 0
    named = lane >= 11
    kinds = sorted(set(activity.kind.tolist()))
    top = 3 * LINE + _SHARE + 14
    page = Page(_LEFT + _WIDTH + _RIGHT, top + max(1, shown) * (lane + gap) + 50)
    page.text("Workers over time", 16, 10, fontweight="bold")
    if shown < len(activity.workers):
        which = f"the first {shown} of {len(activity.workers)}"
        page.text(which, 16, 10 + LINE, color=style.MUTED)
    entries = [(KINDS[kind], _COLOURS[kind]) for kind in kinds]
    page.legend(entries, _LEFT + _WIDTH - 130 * len(kinds), 10, 130)
    shares = _shares(activity)
    _share_busy(page, activity, shares, 2 * LINE + 6)
    lanes = _coloured(activity, shares)[:shown]
    for row, colours in enumerate(lanes):
        down = top + row * (lane + gap)
        page.image(np.broadcast_to(colours, (lane, *colours.shape)), _LEFT, down)
        if named:
            name = style.shortened(activity.workers[row], _LEFT - 12)
            page.text(
                name, _LEFT - 8, down + lane / 2, ha="right", va="center", fontsize=style.SMALL
            )
    if not named:
        middle = top + shown * (lane + gap) / 2
        page.text(f"{shown} workers", _LEFT - 8, middle, ha="right", va="center")
    axes = page.axes(_LEFT, top, _WIDTH, max(1, shown) * (lane + gap))
    axes.patch.set_visible(False)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    unit, divisor = _unit(activity.seconds)
    axes.set(xlim=(0, activity.seconds / divisor), yticks=[], xlabel=unit)
    return page.figure


def _unit(seconds: float) -> tuple[str, float]:
    for name, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds > 3 * size:
            return name, size
    return "seconds", 1.0


def _shares(activity: Activity) -> np.ndarray:
    """The share of each pixel's time that went into each kind: (workers, kinds, pixels)."""
    shares = np.zeros((len(activity.workers), len(KINDS), _WIDTH))
    if activity.seconds <= 0 or not len(activity.start):
        return shares
    scale = _WIDTH / activity.seconds
    start, stop = activity.start * scale, activity.stop * scale
    first = np.clip(start.astype(int), 0, _WIDTH - 1)
    last = np.clip(stop.astype(int), 0, _WIDTH - 1)
    whose = (activity.worker, activity.kind)
    within = first == last
    # The pixels at the ends of a span get their parts, those between one each. These are written
    # as differences along the axis, so that a long span costs as little as a short one.
    np.add.at(shares, (*(a[within] for a in whose), first[within]), (stop - start)[within])
    across = ~within
    ends = [a[across] for a in whose]
    np.add.at(shares, (*ends, first[across]), (first + 1 - start)[across])
    np.add.at(shares, (*ends, last[across]), (stop - last)[across])
    steps = np.zeros((*shares.shape[:2], _WIDTH + 1))
    np.add.at(steps, (*ends, first[across] + 1), 1.0)
    np.add.at(steps, (*ends, last[across]), -1.0)
    return np.clip(shares + steps.cumsum(-1)[..., :_WIDTH], 0, 1)


def _presence(activity: Activity) -> np.ndarray:
    """Whether each worker was connected, bool (workers, pixels)."""
    present = np.zeros((len(activity.workers), _WIDTH), bool)
    for worker, start, stop in activity.connected:
        scale = _WIDTH / max(activity.seconds, 1e-9)
        present[worker, int(start * scale) : int(np.ceil(stop * scale))] = True
    return present


def _coloured(activity: Activity, shares: np.ndarray) -> np.ndarray:
    """uint8 (workers, pixels, 3)."""
    base = np.where(_presence(activity)[..., None], np.array(_IDLE), np.array(_ABSENT)).astype(
        float
    )
    colours = np.array([style.rgb(colour) for colour in _COLOURS], float)
    total = shares.sum(1)
    shares = shares / np.maximum(total, 1.0)[:, None]
    mixed = np.einsum("wkp,kc->wpc", shares, colours)
    return np.round(mixed + base * (1 - np.minimum(total, 1))[..., None]).astype(np.uint8)


def _share_busy(page: Page, activity: Activity, shares: np.ndarray, top: int) -> None:
    axes = page.axes(_LEFT, top, _WIDTH, _SHARE)
    present = np.maximum(_presence(activity).sum(0), 1)
    busy = 100 * shares.sum(0) / np.maximum(present, shares.sum((0, 1)))
    axes.stackplot(np.arange(_WIDTH), busy, step="mid", colors=_COLOURS, linewidth=0)
    axes.set(xlim=(0, _WIDTH), ylim=(0, 100), xticks=[], yticks=[0, 100])
    axes.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
    page.text("busy", _LEFT - 52, top + _SHARE / 2, ha="right", va="center", fontsize=style.SMALL)
