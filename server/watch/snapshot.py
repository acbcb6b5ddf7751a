"""A run at one moment, as onlookers in other threads may read it."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kipper.server.watch import timeline
from kipper.server.watch.matrix import Picture
from kipper.server.watch.timeline import Lane

Record = Mapping[str, Any]

_PROGRESS = (
    *("step", "steps", "rows", "rows_total", "rows_of", "loss", "seconds", "seconds_left"),
    *("kernel_pairs", "vjp_pairs", "pairs_per_second", "bytes_sent", "bytes_received", "blocks"),
    *("evaluated_step", "checkpoint_step"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class ShownImages:
    """Distilled images of an evaluation.

    Attributes:
        step: that they are of.
        images: preprocessed, (n, h, w, c).
        classes: integers (n,); None for targets that are no classes.
        class_names: of the classes.
        labels_learned: whether their labels are learned as well.
    """

    step: int
    images: np.ndarray
    classes: np.ndarray | None
    class_names: tuple[str, ...]
    labels_learned: bool

    def shown(self) -> dict[str, Any]:
        """As /api/state has it."""
        return {
            "step": self.step,
            "url": f"images/{self.step}.png",
            "classes": list(self.class_names),
            "count": len(self.images),
            "labels_learned": self.labels_learned,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class ShownLane:
    """A worker's part of the timeline, and since when it is at what; see `Lane.letters`."""

    worker: str
    lane: Lane
    busy: tuple[int, float] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """A run at one moment; nothing in it changes. What is costly is made when it is asked for.

    Attributes:
        number: counts the snapshots of a run.
        now: when it was made, by the clock of the scheduler.
        unix: the same in seconds since 1970.
        about: what does not change: the part "run", without what status.json says.
        status: what status.json says.
        records: of metrics.jsonl.
        measure: what the run is judged by: key, name and factor.
        natural: the score of natural images, as in records; None: not known.
        workers: as /api/workers has them.
        deaths: of workers.
        counters: of the scheduler.
        matrix: the map to show, if there is one.
        lanes: of the timeline.
        images: of the newest evaluations, the last at the end.
    """

    number: int
    now: float
    unix: float
    about: Mapping[str, Any]
    status: Mapping[str, Any]
    records: tuple[Record, ...] = ()
    measure: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    natural: float | None = None
    workers: Sequence[Mapping[str, Any]] = ()
    deaths: int = 0
    counters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    matrix: Picture | None = None
    lanes: Sequence[ShownLane] = ()
    images: tuple[ShownImages, ...] = ()

    @functools.cached_property
    def state(self) -> dict[str, Any]:
        """What /api/state serves."""
        status = self.status
        return {
            "now": round(self.unix, 3),
            "kipper": self.about["kipper"],
            "run": {
                **{key: value for key, value in self.about.items() if key != "kipper"},
                **{key: status.get(key) for key in ("state", "message", "host", "pid")},
            },
            "progress": {key: status.get(key) for key in _PROGRESS},
            "phases": {
                name: {"seconds": seconds, "idle": status.get("idle_share", {}).get(name, 0.0)}
                for name, seconds in status.get("phase_seconds", {}).items()
            },
            "measure": dict(self.measure),
            "natural": self.natural,
            "workers": list(self.workers),
            "deaths": self.deaths,
            "scheduler": dict(self.counters),
            "matrix": None if self.matrix is None else self.matrix.shown(),
            "timeline": self._timeline(),
            "images": self.images[-1].shown() if self.images else None,
        }

    @functools.cached_property
    def encoded(self) -> bytes:
        """`state` as JSON."""
        return as_json(self.state)

    def _timeline(self) -> dict[str, Any]:
        first = (timeline.bin_of(self.now) - timeline.BINS + 1) * timeline.SECONDS
        return {
            "from": round(first + self.unix - self.now, 3),
            "bin": timeline.SECONDS,
            "lanes": [
                {"worker": shown.worker, "bins": shown.lane.letters(self.now, shown.busy)}
                for shown in self.lanes
            ],
        }


def as_json(value: Any) -> bytes:
    """JSON in UTF-8, with null for NaN and infinities, which JSON does not have."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
