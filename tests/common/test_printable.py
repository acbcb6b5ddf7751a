"""Text from workers and files on terminals, in logs and on pages."""

import io
import json
import logging
import types

import pytest
from absl import logging as absl_logging

from kipper.common import logs, messages
from kipper.common.printable import printable, printable_json, printable_lines
from kipper.launch.commands.display import print_table
from kipper.server.pool_worker import PoolWorker
from kipper.server.replies import why_not_done

HOSTILE = {
    "a forged line": "lost\n2026-11-28 12:00:00 INFO all is well",
    "colours": "\x1b[31mred\x1b[0m",
    "an eight-bit escape": "\x9b31mred",
    "a title": "\x1b]0;owned\x07",
    "a carriage return": "bad\rgood",
    "a reversal": "abc\u202etxt.exe",
    "isolates": "\u2066a\u2069",
    "a line separator": "a\u2028b\x85c",
    "a backspace": "bad\x08\x08\x08good",
    "nothing visible": "a\u200b\ufeff\x00b",
}
hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


@hostile
def test_text_has_no_effect_and_no_line_of_its_own(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) > len(text)
    assert all(line.isprintable() for line in printable_lines(text).split("\n"))
    encoded = printable_json(json.dumps({"message": text}, ensure_ascii=False))
    assert encoded.isprintable()
    assert json.loads(encoded) == {"message": text}


def test_usual_text_stays() -> None:
    for text in ("", "Worker w1: 3.5 µs, R² → naïve 犬 😀", "C:\\new\\table"):
        assert printable(text) == printable_lines(text) == printable_json(text) == text


def test_other_text_is_written_so_that_terminals_and_files_can_take_it() -> None:
    assert printable("\x1b[31m\n\u202e\U000e0001\udc80") == "\\x1b[31m\\n\\u202e\\U000e0001\\udc80"


def test_long_text_is_cut() -> None:
    assert printable("a" * 10_000) == "a" * 2000 + "… (10,000 characters)"
    assert len(printable("\x00" * 10**6)) < 10_000


@hostile
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_logs(text: str, log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    with logs.to_stderr(log_format, logging.INFO), logs.about(worker=text):
        absl_logging.warning("%s", text)
        try:
            raise ValueError(text)
        except ValueError:
            logging.getLogger("library").warning("%s", text, exc_info=True)
    first, *others = stderr.getvalue().rstrip("\n").split("\n")
    if log_format == "json":
        assert json.loads(first)["message"] == text
        assert len(others) == 1
    else:
        assert all(line[:4].isdecimal() or line.startswith("    ") for line in others)
        assert sum(line[:4].isdecimal() for line in others) == 1
    for line in (first, *others):
        assert line.isprintable()


@hostile
def test_what_a_worker_says_of_itself_and_its_failures(text: str) -> None:
    problem = why_not_done(messages.Failure(messages.FAILED, text))
    assert problem.message == printable(text)
    assert why_not_done(ConnectionError(text)).message == printable(text)
    worker = PoolWorker(types.SimpleNamespace(name="w1"), types.SimpleNamespace())
    steps = worker.set_up(None, None)
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(messages.Configured(text, text, text, text, []))
    assert worker.engine == worker.device == worker.numerics.arithmetic == printable(text)


@hostile
def test_tables(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "value"), [(text, "1")])
    head, row = capsys.readouterr().out.rstrip("\n").split("\n")
    assert head.startswith("name")
    assert row.isprintable()
