"""status.json, as another process reads it."""

import json
import os
import pathlib
import socket

import pytest

from kipper.common.sealed import read_object
from kipper.server import status
from kipper.server.status import Status, StatusWriter, read_status


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A stopped clock; its only element is the time."""
    now = [100.0]
    monkeypatch.setattr(status.time, "monotonic", lambda: now[0])
    return now


def test_the_first_update_is_written_with_the_process(tmp_path: pathlib.Path) -> None:
    StatusWriter(tmp_path / "status.json").update(step=3)
    assert read_object(tmp_path / "status.json") == {
        "state": "starting",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "step": 3,
    }


def test_constructing_a_writer_writes_nothing(tmp_path: pathlib.Path) -> None:
    StatusWriter(tmp_path / "status.json")
    assert list(tmp_path.iterdir()) == []


def test_updates_are_written_at_most_five_times_a_second(
    tmp_path: pathlib.Path, clock: list[float]
) -> None:
    path = tmp_path / "status.json"
    writer = StatusWriter(path)
    shown = []
    for step in range(101):
        writer.update(step=step)
        shown.append(read_status(path).step)
        clock[0] += 0.01
    assert shown[0] == 0
    assert 4 <= len(set(shown)) <= 6


def test_fields_that_were_not_written_come_with_the_next_update(
    tmp_path: pathlib.Path, clock: list[float]
) -> None:
    path = tmp_path / "status.json"
    writer = StatusWriter(path)
    writer.update(step=1)
    writer.update(loss=0.5)
    assert read_status(path).loss is None
    clock[0] += 1.0
    writer.update(step=2)
    told = read_status(path)
    assert (told.state, told.step, told.loss) == ("starting", 2, 0.5)


def test_urgent_updates_are_written_at_once(tmp_path: pathlib.Path, clock: list[float]) -> None:
    path = tmp_path / "status.json"
    writer = StatusWriter(path)
    writer.update(state="running")
    writer.update(now=True, state="failed", message="no worker is left")
    assert read_status(path).state == "failed"
    assert "now" not in json.loads(path.read_text())


def test_no_temporary_file_is_left(tmp_path: pathlib.Path) -> None:
    writer = StatusWriter(tmp_path / "status.json")
    for step in range(3):
        writer.update(now=True, step=step)
    assert os.listdir(tmp_path) == ["status.json"]


@pytest.mark.parametrize("content", [None, b"", b'{"state": "run', b"\xff\x00"])
def test_an_absent_or_garbled_status_is_empty(
    tmp_path: pathlib.Path, content: bytes | None
) -> None:
    path = tmp_path / "status.json"
    if content is not None:
        path.write_bytes(content)
    assert read_status(path) == Status()
