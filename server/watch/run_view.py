"""A run at one moment, for the threads that serve the live page."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kipper.common.strict_json import json_text
from kipper.server.watch import timeline
from kipper.server.watch.following import Work
from kipper.server.watch.matrix import MatrixView
from kipper.server.watch.timeline import Lane

Record = Mapping[str, Any]

_PROGRESS = (
    *("step", "steps", "rows", "rows_total", "rows_of", "loss", "seconds", "seconds_left"),
    *("kernel_pairs", "vjp_pairs", "pairs_per_second", "bytes_sent", "bytes_received", "blocks"),
    *("evaluated_step", "checkpoint_step"),
)

_ABOUT_RUN = ("state", "message", "liars", "host", "pid", "numerics", "waits_for")


@dataclasses.dataclass(frozen=True, eq=False)
class ShownImages:
    """Distilled images of an evaluation.

    Attributes:
        step: the step of the evaluation.
        images: preprocessed, (n, h, w, c).
        classes: integers (n,); None for regression targets.
        class_names: names of the classes.
        labels_learned: whether their labels are learned too.
    """

    step: int
    images: np.ndarray
    classes: np.ndarray | None
    class_names: tuple[str, ...]
    labels_learned: bool

    def to_json(self) -> dict[str, Any]:
        """Their entry in /api/state."""
        return {
            "step": self.step,
            "url": f"images/{self.step}.png",
            "classes": list(self.class_names),
            "count": len(self.images),
            "labels_learned": self.labels_learned,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class ShownLane:
    """A worker's part of the timeline, with the arguments of `Lane.letters`."""

    worker: str
    lane: Lane
    busy: tuple[Work, float] | None


@dataclasses.dataclass(frozen=True, eq=False)
class RunView:
    """A run at one moment; immutable. Its JSON is computed on first use.

    Attributes:
        number: counts the views of a run.
        now: when it was made, on the scheduler's clock.
        unix: when it was made, as Unix time.
        about: the constant part of "run" in /api/state, and kipper's version.
        status: contents of status.json.
        records: the records of metrics.jsonl.
        measure: key, name and factor of the run's score.
        natural: the score of natural images, as in records; None if not known.
        workers: the response of /api/workers.
        deaths: how often workers were lost.
        counters: the counters of the scheduler.
        matrix: the matrix to show, if any.
        lanes: the lanes of the timeline.
        images: the images of the newest evaluations, the newest last.
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
    matrix: MatrixView | None = None
    lanes: Sequence[ShownLane] = ()
    images: tuple[ShownImages, ...] = ()

    @functools.cached_property
    def state(self) -> dict[str, Any]:
        """The response of /api/state."""
        status = self.status
        return {
            "now": round(self.unix, 3),
            "kipper": self.about["kipper"],
            "run": {
                **{key: value for key, value in self.about.items() if key != "kipper"},
                **{key: status.get(key) for key in _ABOUT_RUN},
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
            "matrix": None if self.matrix is None else self.matrix.to_json(),
            "timeline": self._timeline(),
            "images": self.images[-1].to_json() if self.images else None,
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
    """JSON in UTF-8, with null in place of NaN and infinities."""
    return json_text(value, separators=(",", ":")).encode()
