"""What a run reports to Prometheus, and how it leaves its page at the end."""

import json
import pathlib
import re
import runpy
import threading
import time
import urllib.error
import urllib.request

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kipper.common.errors import Interrupted
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.commands.display import progress_line
from kipper.launch.commands.run_state import lines_about, state_of
from kipper.launch.coordinator import check_run, coordinate, load_experiment
from kipper.launch.inprocess import inprocess_links
from kipper.launch.page.prometheus import LABELS
from kipper.launch.processes.stopping import StopRequest
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

DOCS = pathlib.Path(__file__).parents[3] / "docs"


def _get(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as answer:
        return answer.read().decode()


def _status(workdir):
    return json.loads(workdir.status.read_text())


def _waited_for(what):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    return pytest.fail("it did not come to that")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run under way, its folder, and what stops it and waits for its end."""
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    few = {"train_limit": 500, "test_limit": 100, "steps": 10**6, "eval_every": 10}
    settings = RunSettings.of(
        DistillSettings, workdir=str(workdir.path), dataset="digits", verify_fraction=0.5, **few
    )
    check_run(settings)
    experiment, stop, ended = load_experiment(settings), StopRequest(), []

    def go_on():
        links = inprocess_links(2, experiment.row_sets(with_validation=True), 1)
        with pytest.raises(Interrupted):
            coordinate(settings, experiment, links, stop=stop)
        ended.append(True)

    thread = threading.Thread(target=go_on)
    thread.start()
    _waited_for(lambda: workdir.status.exists() and _status(workdir).get("evaluated_step", 0) > 10)

    def end():
        stop.ask()
        thread.join(60)
        return bool(ended)

    yield workdir, end
    end()


@pytest.fixture(scope="module")
def scraped(run):
    """Samples by name and labels, with what the run's files said before and afterwards."""
    workdir, _ = run
    before = _status(workdir), workdir.read_records(workdir.metrics)
    time.sleep(1.0)
    text = _get(_status(workdir)["dashboard"] + "/metrics")
    time.sleep(0.5)
    families = list(text_string_to_metric_families(text))
    samples = {(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples}
    return samples, before, (_status(workdir), workdir.read_records(workdir.metrics))


def _documented():
    table = (DOCS / "metrics.md").read_text()
    return set(re.findall(r"^\| `(kipper_\w+)` \|", table, re.MULTILINE))


def test_every_metric_is_documented_and_every_documented_one_is_there(scraped):
    samples, _, _ = scraped
    assert {name for name, *_ in samples} == _documented()
    assert 18 <= len(_documented()) <= 26


def test_metrics_say_what_the_run_s_files_say(scraped):
    samples, (before, _), (after, records) = scraped
    counters = {
        ("kipper_step",): "step",
        ("kipper_blocks_total",): "blocks",
        ("kipper_run_seconds_total",): "seconds",
        ("kipper_pairs_total", ("of", "kernel")): "kernel_pairs",
        ("kipper_pairs_total", ("of", "vjp")): "vjp_pairs",
        ("kipper_moved_bytes_total", ("way", "sent")): "bytes_sent",
        ("kipper_moved_bytes_total", ("way", "received")): "bytes_received",
        ("kipper_last_checkpoint_step",): "checkpoint_step",
    }
    for sample, field in counters.items():
        assert before[field] <= samples[sample] <= after[field], sample
    for name, seconds in before["phase_seconds"].items():
        sample = samples["kipper_phase_seconds_total", ("phase", name)]
        assert seconds <= sample <= after["phase_seconds"][name]
    evaluated = {record["step"]: record for record in records}
    record = evaluated[samples["kipper_last_evaluation_step",]]
    assert samples["kipper_score_ratio", ("part", "test")] == record["test_accuracy"]
    assert samples["kipper_score_ratio", ("part", "train")] == record["train_accuracy"]
    assert samples["kipper_score_ratio", ("part", "natural")] == records[0]["test_accuracy"]
    assert samples["kipper_steps",] == 10**6


def test_metrics_of_workers_add_up(scraped):
    samples, _, (after, _) = scraped
    of_workers = [v for key, v in samples.items() if key[0] == "kipper_worker_pairs_total"]
    assert len(of_workers) == 2
    pairs = [v for key, v in samples.items() if key[0] == "kipper_pairs_total"]
    # Counted as answers come; the sums are written a moment later.
    assert sum(pairs) <= sum(of_workers) <= after["kernel_pairs"] + after["vjp_pairs"]
    blocks = [v for key, v in samples.items() if key[0] == "kipper_worker_blocks_total"]
    assert samples["kipper_blocks_total",] <= sum(blocks) <= after["blocks"]
    assert samples["kipper_verified_total",] > 0
    there = [v for key, v in samples.items() if key[0] == "kipper_workers"]
    assert sum(there) == 2
    assert abs(samples["kipper_silence_seconds",]) < 60


def test_the_state_says_what_the_run_s_files_say(run):
    workdir, _ = run
    address = _status(workdir)["dashboard"]
    state = json.loads(_get(address + "/api/state"))
    assert state["run"]["workdir"] == str(workdir.path)
    assert (state["run"]["algorithm"], state["run"]["dataset"]) == ("KIP", "digits")
    assert state["progress"]["step"] <= _status(workdir)["step"]
    records = json.loads(_get(address + "/api/records"))
    assert records == workdir.read_records(workdir.metrics)[: len(records)]
    assert state["images"]["step"] in {record["step"] for record in records}
    assert {worker["state"] for worker in state["workers"]} <= {"idle", "working"}
    assert set(state["matrix"]["states"]) <= set("qrxdD")
    assert state["matrix"]["support"] == 10
    lanes = {lane["worker"]: lane["bins"] for lane in state["timeline"]["lanes"]}
    assert lanes.keys() == {"worker-0", "worker-1"}
    assert set("".join(lanes.values())) & set("kg")
    assert dict(lines_about(state_of(workdir.path)))["dashboard"] == address


def test_after_the_run_nothing_points_to_the_server(run):
    workdir, end = run
    address = _status(workdir)["dashboard"]
    assert end()
    with pytest.raises(urllib.error.URLError):
        _get(address)
    assert _status(workdir)["dashboard"] is None
    assert "dashboard" not in dict(lines_about(state_of(workdir.path)))
    assert progress_line(read_status(workdir.status)) == "interrupted"


def test_grafana_and_the_table_of_metrics_follow_their_definitions():
    made = runpy.run_path(str(DOCS / "grafana.py"))
    assert (DOCS / "grafana.json").read_text() == made["grafana"]()
    page = (DOCS / "metrics.md").read_text()
    assert made["table"]() in page
    assert made["with_table"](page) == page


def test_grafana_asks_for_metrics_that_exist():
    board = json.loads((DOCS / "grafana.json").read_text())
    asked = set()
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            found = set(re.findall(r"\bkipper_\w+", target["expr"]))
            assert found, target["expr"]
            asked |= found
            assert target["expr"].count("(") == target["expr"].count(")")
            assert 'instance=~"$instance"' in target["expr"]
    assert asked <= _documented()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [panel["gridPos"] for panel in board["panels"]]
    tiles = [(x, y) for p in places for x in range(p["w"]) for y in range(p["h"])]
    filled = {
        (p["x"] + x, p["y"] + y) for p in places for x in range(p["w"]) for y in range(p["h"])
    }
    assert len(filled) == len(tiles)  # none covers another


def test_alerts_are_documented_and_ask_for_metrics_that_exist():
    content = (DOCS / "alerts.yml").read_text()
    assert f"```yaml\n{content}```" in (DOCS / "metrics.md").read_text()
    rules = [rule for group in yaml.safe_load(content)["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in rules} == {"KipperNoWorkers", "KipperStalled"}
    for rule in rules:
        assert set(re.findall(r"\bkipper_\w+", rule["expr"])) <= _documented()
        for label, values in re.findall(r'(\w+)=~"([^"]+)"', rule["expr"]):
            assert set(values.split("|")) <= set(LABELS[label])
