"""What lines say, where they go, and how often."""

import json
import logging as std_logging
import pathlib
import sys
import threading
import warnings

import pytest
from absl import logging

from kipper.common import logs


@pytest.fixture(autouse=True)
def _these_tests_are_kippers(monkeypatch):
    """Also where they try a kipper that is installed elsewhere."""
    monkeypatch.setattr(logs, "KIPPER", f"{pathlib.Path(__file__).parents[2]}/")


@pytest.fixture
def written(tmp_path):
    """A function that returns the lines written so far."""
    return lambda: (tmp_path / "run.log").read_text().splitlines()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_line_says_what_it_is_about(tmp_path, written, capsys, log_format):
    with logs.to_file(tmp_path / "run.log", "c1", log_format):
        logs.now_about(step=12)
        with logs.about(worker="worker-0", block=345):
            logging.info("A %s.", "sentence")
        logging.info("Another.")
    first, second = written()
    if log_format == "text":
        assert first[19:] == " INFO run=c1 step=12 worker=worker-0 block=345 A sentence."
        assert second[19:] == " INFO run=c1 step=12 Another."
    else:
        line = json.loads(first)
        assert line.pop("time").endswith("Z")
        assert line.pop("source").startswith("tests/common/test_logs.py:")
        assert line == {
            "level": "INFO",
            "run": "c1",
            "step": 12,
            "worker": "worker-0",
            "block": 345,
            "message": "A sentence.",
        }
    assert logs.subject() == {}
    assert capsys.readouterr().err == ""


def test_an_exception_is_part_of_its_line_of_json(tmp_path, written):
    with logs.to_file(tmp_path / "run.log", "c1", "json"):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logging.exception("It failed.")
    (line,) = map(json.loads, written())
    assert line["level"] == "ERROR"
    assert line["exception"].endswith("ValueError: two\nlines")


def test_other_threads_know_nothing_of_it_unless_it_is_carried_there():
    seen = []
    with logs.about(run="c1", step=3):
        bare = threading.Thread(target=lambda: seen.append(logs.subject()))
        carrying = threading.Thread(target=logs.carried(lambda: seen.append(logs.subject())))
    for thread in (bare, carrying):
        thread.start()
        thread.join()
    assert seen == [{}, {"run": "c1", "step": 3}]


def test_lines_about_another_run_of_this_process_are_not_written(tmp_path, written):
    with logs.to_file(tmp_path / "run.log", "c1"):
        with logs.about(run="c2"):
            logging.info("Of the other.")
        other = threading.Thread(target=lambda: logging.info("Of none."))
        other.start()
        other.join()
    assert [line[19:] for line in written()] == [" INFO Of none."]


def test_a_repeated_warning_is_said_when_its_number_grows_tenfold_and_at_the_end(
    tmp_path, written, capsys
):
    with logs.to_file(tmp_path / "run.log", "c1"):
        for step in range(123):
            logs.now_about(step=step)
            logging.warning("The disk is %s.", "full")
            logging.info("Step.")
    lines = [line[20:] for line in written() if "Step." not in line]
    assert lines == [
        "WARNING run=c1 step=0 The disk is full.",
        "WARNING run=c1 step=9 The disk is full. (said 10 times)",
        "WARNING run=c1 step=99 The disk is full. (said 100 times)",
        "WARNING run=c1 step=122 The disk is full. (said 123 times)",
    ]
    assert sum("Step." in line for line in written()) == 123
    assert [line[20:] for line in capsys.readouterr().err.splitlines()] == lines


def test_the_same_of_two_workers_is_not_the_same(tmp_path, written):
    with logs.to_file(tmp_path / "run.log", "c1"):
        for worker in ("a", "b"):
            with logs.about(worker=worker):
                logging.warning("It is lost.")
    assert len(written()) == 2


def test_the_terminal_hears_kippers_warnings_only(tmp_path, written, capsys, monkeypatch):
    with logs.to_stderr(), logs.to_file(tmp_path / "run.log", "c1"):
        # As a library that logs by absl, one that logs by itself, and one that warns do.
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(logs, "KIPPER", "/elsewhere/")
            logging.warning("From absl.")
        std_logging.getLogger("jax._src").warning("From JAX.")
        std_logging.getLogger("jax._src").info("Nothing.")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("From Python.", UserWarning, stacklevel=1)
        assert capsys.readouterr().err == ""
        logging.info("Ours.")
        logging.warning("Ours too.")
    assert capsys.readouterr().err[20:] == "WARNING run=c1 Ours too.\n"
    text = "\n".join(written())
    for sentence in ("From absl.", "From JAX.", "From Python.", "Ours.", "Ours too."):
        assert sentence in text
    assert "Nothing" not in text


def test_a_log_on_stderr_has_libraries_too_where_nobody_sits_before_it(capsys, monkeypatch):
    with logs.to_stderr("json", std_logging.INFO):
        logging.info("Hello.")
        std_logging.getLogger("jax").warning("From JAX.")
    messages = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert messages == ["Hello.", "From JAX."]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with logs.to_stderr("text", std_logging.INFO):
        std_logging.getLogger("jax").warning("From JAX.")
    assert capsys.readouterr().err == ""


def test_libraries_get_their_handlers_back(tmp_path):
    logger = std_logging.getLogger("some_library")
    own = std_logging.StreamHandler(sys.stderr)
    logger.addHandler(own)
    with logs.to_file(tmp_path / "run.log", "c1"):
        assert logger.handlers == []
    assert logger.handlers == [own]
    logger.removeHandler(own)


def test_warnings_of_one_line_of_code_with_ever_other_words_are_bounded(
    tmp_path, written, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    with logs.to_file(tmp_path / "run.log", "c1"):
        for name in range(1002):
            if name == 1000:
                now[0] = 61.0
            logging.warning("Worker %d is refused.", name)
            if name == 999:
                logging.warning("Another line of code.")
    lines = [line[20:] for line in written()]
    assert lines[59:] == [
        "WARNING run=c1 Worker 59 is refused.",
        "WARNING run=c1 Another line of code.",
        "WARNING run=c1 Worker 1000 is refused. (after 940 more like it)",
        "WARNING run=c1 Worker 1001 is refused.",
    ]
