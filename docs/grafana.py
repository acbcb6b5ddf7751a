"""Writes grafana.json, and the table of metrics in metrics.md, from the definitions of metrics.

python docs/grafana.py
"""

import json
import pathlib
import re

from kipper.launch.page.prometheus import INFO_LABELS, INFO_TEXT, LABELS, METRICS, Metric

FOLDER = pathlib.Path(__file__).parent
BY_NAME = {metric.name: metric for metric in METRICS}
# A number and a graph of each panel's metrics: its title, and their names without "kipper_".
NUMBERS = {
    "Step": "step steps",
    "Score": "score_ratio",
    "Time left": "remaining_seconds",
    "Workers": "workers",
    "Worker deaths": "worker_deaths_total",
    "Silence": "silence_seconds",
}
GRAPHS = {
    "Score": "score_ratio",
    "Loss": "loss",
    "Kernel pairs per second": "pairs_total",
    "Workers": "workers",
    "Pairs per second, fastest 20 workers": "worker_pairs_total",
    "Age of the last answer, oldest 20": "worker_last_answer_timestamp_seconds",
    "Idle share of the workers' time": "phase_idle_ratio",
    "Share of time in each phase": "phase_seconds_total",
    "Bytes per second": "moved_bytes_total",
    "Blocks per second": "blocks_total verified_total",
    "Trouble per second": "retries_total duplicates_total worker_deaths_total",
    "Steps": "step last_evaluation_step last_checkpoint_step",
}
SOURCE = {"type": "prometheus", "uid": "${source}"}


def query(metric: Metric, is_number: bool) -> str:
    """A counter's rate, a timestamp's age, a gauge as it is; of workers the twenty largest."""
    text = f'{metric.name}{{instance=~"$instance"}}'
    if metric.is_counter and not is_number:
        text = f"rate({text}[1m])"
    if metric.name.endswith("timestamp_seconds"):
        text = f"time() - {text}"
    return f"topk(20, {text})" if metric.label == "worker" else text


def unit(metric: Metric, is_number: bool) -> str:
    """Grafana's name of the query's unit, from the end of the metric's name."""
    is_rate = metric.is_counter and not is_number
    name = metric.name.removesuffix("_total")
    for suffix, plain, rate in (
        ("_seconds", "s", "percentunit"),
        ("_ratio", "percentunit", "none"),
        ("_bytes", "bytes", "Bps"),
        ("", "none", "ops"),
    ):
        if name.endswith(suffix):
            return rate if is_rate else plain
    raise AssertionError


def panel(number: int, title: str, names: str) -> dict[str, object]:
    """The panel of some metrics, in its place."""
    is_number = number < len(NUMBERS)
    place = number if is_number else number - len(NUMBERS)
    width, height, across = (4, 4, 6) if is_number else (8, 8, 3)
    top = 0 if is_number else 4
    metrics = [BY_NAME[f"kipper_{name}"] for name in names.split()]
    return {
        "id": number + 1,
        "type": "stat" if is_number else "timeseries",
        "title": title,
        "description": "; ".join(metric.text for metric in metrics),
        "datasource": SOURCE,
        "gridPos": {
            "x": width * (place % across),
            "y": top + height * (place // across),
            "w": width,
            "h": height,
        },
        "fieldConfig": {"defaults": {"unit": unit(metrics[0], is_number)}, "overrides": []},
        "targets": [
            {
                "refId": "ABC"[index],
                "datasource": SOURCE,
                "expr": query(metric, is_number),
                "legendFormat": f"{{{{{metric.label}}}}}" if metric.label else name,
            }
            for index, (name, metric) in enumerate(zip(names.split(), metrics, strict=True))
        ],
    }


def grafana() -> str:
    """The content of grafana.json, a line for each panel."""
    runs = "label_values(kipper_run_info, instance)"
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    instance = {"name": "instance", "label": "Run", "type": "query", "datasource": SOURCE}
    instance |= {"refresh": 2, "definition": runs, "query": {"query": runs, "refId": "run"}}
    board = {
        "title": "kipper",
        "uid": "kipper",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": [source, instance]},
    }
    panels = [
        panel(number, title, names)
        for number, (title, names) in enumerate([*NUMBERS.items(), *GRAPHS.items()])
    ]
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in board.items())
    return f'{{\n{head}"panels": [\n' + ",\n".join(map(json.dumps, panels)) + "\n]\n}\n"


def table() -> str:
    """The table of metrics.md."""
    labels = ", ".join(f"`{label}`" for label in INFO_LABELS)
    rows = [f"| `kipper_run_info` | gauge, 1 | {labels} | {INFO_TEXT} |"]
    for metric in METRICS:
        values = ", ".join(f"`{value}`" for value in LABELS.get(metric.label, ()))
        label = f"`{metric.label}`" + (f": {values}" if values else "") if metric.label else ""
        kind = "counter" if metric.is_counter else "gauge"
        rows.append(f"| `{metric.name}` | {kind} | {label} | {metric.text} |")
    return "\n".join(["| name | kind | labels | content |", "| --- | --- | --- | --- |", *rows])


def with_table(page: str) -> str:
    """A page whose table of metrics is replaced by the newest one."""
    return re.sub(r"\| name \| kind \|.*?(?=\n\n)", lambda _: table(), page, flags=re.DOTALL)


if __name__ == "__main__":
    (FOLDER / "grafana.json").write_text(grafana())
    (FOLDER / "metrics.md").write_text(with_table((FOLDER / "metrics.md").read_text()))
