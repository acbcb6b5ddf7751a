"""Metrics of a run for Prometheus, made of a snapshot; docs/metrics.md says what they mean."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from kipper.server.watch.snapshot import Snapshot

_WORKER_STATES = ("idle", "working", "leaving", "lost")


def exposition(snapshot: Snapshot, accept: str, unix: float) -> tuple[bytes, str]:
    """What /metrics answers, and its content type.

    Args:
        snapshot: of the run.
        accept: the header of the request: text, or OpenMetrics.
        unix: seconds since 1970.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_OfSnapshot(snapshot, unix))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


class _OfSnapshot(Collector):
    def __init__(self, snapshot: Snapshot, unix: float):
        self._snapshot = snapshot
        self._unix = unix

    def collect(self) -> Iterator[Metric]:
        return families(self._snapshot, self._unix)


def families(snapshot: Snapshot, unix: float) -> Iterator[Metric]:
    """All metrics; those that are not known yet have no samples."""
    state = snapshot.state
    yield from _of_run(state, snapshot, unix)
    yield from _of_work(state)
    yield from _of_workers(state)


def _of_run(state: dict[str, Any], snapshot: Snapshot, unix: float) -> Iterator[Metric]:
    run, progress = state["run"], state["progress"]
    last = snapshot.records[-1] if snapshot.records else {}
    key = state["measure"].get("key", "accuracy")
    labels = ("version", "algorithm", "dataset", "architecture", "workdir")
    info = InfoMetricFamily("kipper_run", "What is run, and by which version.")
    values = (state["kipper"], *(run[name] for name in labels[1:]))
    info.add_metric([], dict(zip(labels, map(str, values), strict=True)))
    yield info
    yield _gauge("kipper_start_time_seconds", "When the run began, since 1970.", run["started"])
    silence = unix - state["now"]
    yield _gauge("kipper_silence_seconds", "Since the run's loop last said anything.", silence)
    yield _gauge("kipper_step", "Step under way.", progress["step"])
    yield _gauge("kipper_steps", "Steps to be made.", progress["steps"])
    loss = progress["loss"] if progress["loss"] is not None else last.get("loss")
    yield _gauge("kipper_loss", "Loss of the newest step, or of the solution.", loss)
    scores = GaugeMetricFamily(
        "kipper_score_ratio", "Accuracy, or R² of targets, when evaluated last.", labels=["part"]
    )
    natural = {"natural": state["natural"]}
    for part, value in ({p: last.get(f"{p}_{key}") for p in ("test", "train")} | natural).items():
        if value is not None:
            scores.add_metric([part], value)
    yield scores
    yield _gauge("kipper_remaining_seconds", "Time left, estimated.", progress["seconds_left"])
    yield _gauge("kipper_last_evaluation_step", "Step evaluated last.", last.get("step"))
    yield _gauge("kipper_last_checkpoint_step", "Newest checkpoint.", progress["checkpoint_step"])


def _of_work(state: dict[str, Any]) -> Iterator[Metric]:
    progress, scheduler = state["progress"], state["scheduler"]
    yield _counter("kipper_run_seconds", "Of the run, resumptions included.", progress["seconds"])
    pairs = CounterMetricFamily(
        "kipper_pairs", "Kernel entries computed, resumptions included.", labels=["of"]
    )
    for of in ("kernel", "vjp"):
        if progress[f"{of}_pairs"] is not None:
            pairs.add_metric([of], progress[f"{of}_pairs"])
    yield pairs
    yield _counter("kipper_blocks", "Blocks of which an answer was used.", progress["blocks"])
    for name, text in (
        ("retries", "Answers that were lost, or were none."),
        ("duplicates", "Copies sent of running blocks."),
        ("verified", "Blocks of which two workers' answers agreed."),
    ):
        yield _counter(f"kipper_{name}", text, scheduler.get(name))
    moved = CounterMetricFamily(
        "kipper_moved_bytes", "Images, kernels and cotangents to and from workers.", labels=["way"]
    )
    for way in ("sent", "received"):
        if progress[f"bytes_{way}"] is not None:
            moved.add_metric([way], progress[f"bytes_{way}"])
    yield moved
    seconds = CounterMetricFamily("kipper_phase_seconds", "Time in each phase.", labels=["phase"])
    idle = GaugeMetricFamily(
        "kipper_phase_idle_ratio", "Of the workers' time in it, spent idle.", labels=["phase"]
    )
    for name, phase in state["phases"].items():
        seconds.add_metric([name], phase["seconds"])
        idle.add_metric([name], phase["idle"])
    yield seconds
    yield idle


def _of_workers(state: dict[str, Any]) -> Iterator[Metric]:
    workers = state["workers"]
    by_state = GaugeMetricFamily("kipper_workers", "Workers by state.", labels=["state"])
    for name in _WORKER_STATES:
        by_state.add_metric([name], sum(worker["state"] == name for worker in workers))
    yield by_state
    yield _counter("kipper_worker_deaths", "Workers lost.", state["deaths"])
    each: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
        "blocks": CounterMetricFamily(
            "kipper_worker_blocks", "Blocks of a worker that were used.", labels=["worker"]
        ),
        "pairs": CounterMetricFamily(
            "kipper_worker_pairs", "Kernel entries of those blocks.", labels=["worker"]
        ),
        "last_answer": GaugeMetricFamily(
            "kipper_worker_last_answer_timestamp_seconds",
            "When a worker last answered, since 1970.",
            labels=["worker"],
        ),
    }
    for key, family in each.items():
        for worker in workers:
            if worker["state"] != "lost" and worker[key] is not None:
                family.add_metric([worker["name"]], worker[key])
        yield family


def _gauge(name: str, text: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(name, text)
    if value is not None:
        family.add_metric([], value)
    return family


def _counter(name: str, text: str, value: float | None) -> Metric:
    family = CounterMetricFamily(name, text)
    if value is not None:
        family.add_metric([], value)
    return family
