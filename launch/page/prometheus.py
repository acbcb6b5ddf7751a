"""Metrics of a run for Prometheus.

docs/grafana.py makes docs/grafana.json and the table in docs/metrics.md from `METRICS`.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import InfoMetricFamily
from prometheus_client.registry import Collector

from kipper.server.records import Json
from kipper.server.watch.run_view import RunView

INFO_TEXT = "what runs, and which version of kipper runs it"
INFO_LABELS = ("version", "algorithm", "dataset", "architecture", "workdir")
# The values of each label; those of "worker" are the names of the connected workers.
LABELS: dict[str, tuple[str, ...]] = {
    "part": ("test", "train", "natural"),
    "of": ("kernel", "vjp"),
    "way": ("sent", "received"),
    "phase": ("forward", "backward", "evaluation"),
    "state": ("idle", "working", "leaving", "lost"),
    "worker": (),
}
_Family = CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric: a counter if its name ends with _total, else a gauge.

    Attributes:
        name: ends with its unit, as Prometheus recommends.
        path: the path of its value in the document that `_document` makes; `*` stands for the
            label.
        text: explains it.
        label: a key of `LABELS`, or "".
    """

    name: str
    path: str
    text: str
    label: str = ""

    @property
    def is_counter(self) -> bool:
        """Whether it only grows."""
        return self.name.endswith("_total")

    def family(self, document: Json) -> _Family:
        """Its samples; none for values that are not known yet."""
        cls = CounterMetricFamily if self.is_counter else GaugeMetricFamily
        family = cls(self.name, self.text, labels=[self.label] if self.label else [])
        for label in LABELS.get(self.label, ("",)) or document["connected"]:
            found: Any = document
            for part in self.path.split("."):
                found = (found or {}).get(part.replace("*", label))
            if found is not None:
                family.add_metric([label] if self.label else [], found)
        return family


METRICS = (
    Metric("kipper_start_time_seconds", "run.started", "start of this coordinator, since 1970"),
    Metric("kipper_silence_seconds", "silence", "time since the run's loop last reported anything"),
    Metric("kipper_step", "progress.step", "current step of KIP"),
    Metric("kipper_steps", "progress.steps", "number of steps to make"),
    Metric("kipper_loss", "loss", "loss of the newest step, or of the labels that were solved for"),
    Metric("kipper_score_ratio", "scores.*", "newest accuracy, 0 to 1, or R² of targets", "part"),
    Metric("kipper_remaining_seconds", "progress.seconds_left", "estimated time left"),
    Metric("kipper_last_evaluation_step", "evaluation.step", "step of the newest evaluation"),
    Metric("kipper_last_checkpoint_step", "progress.checkpoint_step", "newest checkpoint of KIP"),
    Metric("kipper_run_seconds_total", "progress.seconds", "time that the run has taken"),
    Metric("kipper_pairs_total", "progress.*_pairs", "kernel entries computed and used", "of"),
    Metric("kipper_blocks_total", "progress.blocks", "blocks computed and used"),
    Metric("kipper_retries_total", "scheduler.retries", "answers that were lost or were errors"),
    Metric("kipper_duplicates_total", "scheduler.duplicates", "copies of late blocks sent"),
    Metric("kipper_verified_total", "scheduler.verified", "blocks that two workers agreed on"),
    Metric("kipper_moved_bytes_total", "progress.bytes_*", "bytes to and from workers", "way"),
    Metric("kipper_phase_seconds_total", "phases.*.seconds", "time spent in the phase", "phase"),
    Metric("kipper_phase_idle_ratio", "phases.*.idle", "idle share of the workers' time", "phase"),
    Metric("kipper_workers", "workers.*", "number of workers; at most 200 lost ones", "state"),
    Metric("kipper_worker_deaths_total", "deaths", "number of times that a worker was lost"),
    Metric(
        "kipper_worker_blocks_total", "connected.*.blocks", "blocks computed and used", "worker"
    ),
    Metric("kipper_worker_pairs_total", "connected.*.pairs", "kernel entries of those", "worker"),
    Metric(
        "kipper_worker_last_answer_timestamp_seconds",
        "connected.*.last_answer",
        "time of the newest answer, since 1970",
        "worker",
    ),
)


def exposition(snapshot: RunView, accept: str, unix: float) -> tuple[bytes, str]:
    """The answer of /metrics, and its content type.

    Args:
        snapshot: the snapshot of the run.
        accept: the Accept header of the request, which chooses the text format or OpenMetrics.
        unix: the time now, in seconds since 1970.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(_document(snapshot, unix)))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


def _document(snapshot: RunView, unix: float) -> Json:
    """/api/state, with what is computed from it."""
    state = snapshot.state
    evaluation = snapshot.records[-1] if snapshot.records else {}
    key = state["measure"].get("key", "accuracy")
    scores = {part: evaluation.get(f"{part}_{key}") for part in ("test", "train")}
    loss, workers = state["progress"]["loss"], state["workers"]
    return {
        **state,
        "silence": unix - state["now"],
        "evaluation": evaluation,
        "loss": evaluation.get("loss") if loss is None else loss,
        "scores": {**scores, "natural": state["natural"]},
        "workers": {
            name: sum(worker["state"] == name for worker in workers) for name in LABELS["state"]
        },
        "connected": {each["name"]: each for each in workers if each["state"] != "lost"},
    }


class _Metrics(Collector):
    def __init__(self, document: Json):
        self._document = document

    def collect(self) -> Iterator[_Family]:
        facts = {**self._document["run"], "version": self._document["kipper"]}
        info = InfoMetricFamily("kipper_run", INFO_TEXT)
        info.add_metric([], {label: str(facts[label]) for label in INFO_LABELS})
        yield info
        for metric in METRICS:
            yield metric.family(self._document)
