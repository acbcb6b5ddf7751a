"""`kipper replay` on the log of a real run."""

import json

import pytest

from kipper.launch.main import run

DIGITS = ["--dataset=digits", "--steps=2", "--train_limit=200", "--test_limit=100"]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    assert run(["distill", f"--workdir={workdir}", *DIGITS]) == 0
    return workdir / "logs" / "events.jsonl"


def test_a_run_is_replayed_with_the_same_decisions(log, capsys):
    assert run(["replay", str(log)]) == 0
    assert "events gave the same instructions" in capsys.readouterr().out


def test_another_decision_is_named(log, tmp_path, capsys):
    lines = log.read_text().splitlines()
    position = next(i for i, line in enumerate(lines) if '"SendBlock"' in line)
    record = json.loads(lines[position])
    record["then"] = []
    lines[position] = json.dumps(record)
    changed = tmp_path / "events.jsonl"
    changed.write_text("\n".join(lines) + "\n")
    assert run(["replay", f"--log={changed}"]) == 2
    error = capsys.readouterr().err
    assert f"Event {position} of {changed}" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("text", [None, "", "{}\n", "not json\n"])
def test_a_file_that_is_not_a_log_is_refused(tmp_path, capsys, text):
    path = tmp_path / "log"
    if text is not None:
        path.write_text(text)
    assert run(["replay", str(path)]) == 2
    assert "is not an event log of kipper" in capsys.readouterr().err


def test_a_log_must_be_named(capsys):
    assert run(["replay"]) == 2
    assert "--log is required" in capsys.readouterr().err
