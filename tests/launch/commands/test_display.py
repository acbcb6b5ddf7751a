"""The progress line of a status, and when it is printed."""

import time

from kipper.common.files import write_json, write_text
from kipper.launch.commands import display
from kipper.launch.commands.display import progress_line, showing_progress
from kipper.server.status import Status
from kipper.server.workdir import Workdir


def test_a_running_line_tells_step_loss_rate_engine_and_time_left():
    status = {
        "state": "running",
        "steps": 300,
        "step": 12,
        "loss": 0.0123456,
        "test_accuracy": 0.9,
        "evaluated_step": 8,
        "blocks": 72,
        "workers": 2,
        "pairs_per_second": 5678,
        "engine": "banded_cpu",
        "seconds_left": 3723.4,
    }
    assert progress_line(Status.read(status)) == (
        "step 12/300  loss 0.0123456  test 90.0 % (step 8)  72 blocks  2 workers  "
        "5,678 pairs/s by banded_cpu  1 h 02 min left"
    )


def test_a_run_that_solves_for_labels_tells_its_rows_and_the_time_left():
    status = {"state": "running", "steps": 0, "rows_of": "targets", "rows": 12800}
    status |= {"rows_total": 50000, "blocks": 800, "workers": 4, "seconds_left": 221.0}
    line = progress_line(Status.read(status))
    assert line == "targets 12,800/50,000  800 blocks  4 workers  3 min 41 s left"


def test_before_the_first_block_and_after_the_last_it_tells_the_state():
    assert progress_line(Status.read({})) == "starting"
    assert progress_line(Status.read({"state": "finished", "step": 3})) == "finished"
    assert progress_line(Status.read({"state": "running", "workers": 2})) == "0 blocks  2 workers"


def test_without_a_terminal_progress_is_printed_after_a_silence(tmp_path, capsys, monkeypatch):
    workdir = Workdir(tmp_path)
    monkeypatch.setattr(display, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(display, "SILENT_SECONDS", 0.2)
    write_json(workdir.status, {"state": "running", "workers": 2})
    with showing_progress(workdir):
        deadline = time.monotonic() + 30
        said = ""
        while "0 blocks" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().out
    assert said == "0 blocks  2 workers\n"


def test_an_evaluation_breaks_the_silence(tmp_path, capsys, monkeypatch):
    workdir = Workdir(tmp_path)
    monkeypatch.setattr(display, "POLL_SECONDS", 0.01)
    with showing_progress(workdir):
        record = (
            '{"step": 3, "loss": 0.5, "train_accuracy": 0.1, "test_accuracy": 0.2, "seconds": 4}'
        )
        write_text(workdir.metrics, record + "\n")
        time.sleep(0.1)
    said = capsys.readouterr().out
    assert said == "step      3  loss 0.5        train  10.0 %  test  20.0 %       4.0 s\n"
