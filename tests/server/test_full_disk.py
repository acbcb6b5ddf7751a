"""A disk that is full at any write: one sentence, and the same bits afterwards."""

import errno
import os
import pathlib
from collections.abc import Callable

import pytest
from tiny_runs import kip_settings, tiny_session

from kipper.common import files
from kipper.common.errors import TemporaryError
from kipper.server import record_files
from kipper.server.algorithms import algorithm_of
from kipper.server.distilled_set import load_distilled, set_key
from kipper.server.measures import ACCURACY, Score
from kipper.server.records import RunResult
from kipper.server.snapshots import BestKeeper
from kipper.server.status import read_status
from kipper.server.workdir import Workdir


def carry_out(folder: pathlib.Path) -> RunResult:
    settings = kip_settings(folder)
    with tiny_session(settings) as session:
        keeper = BestKeeper(
            session.workdir, lambda images, _: Score(ACCURACY, float(images.mean()) % 1)
        )
        return algorithm_of(settings.compute).run(session, keeper)


def keys(folder: pathlib.Path) -> list[str]:
    return [set_key(*load_distilled(folder / name)) for name in ("distilled.npz", "best.npz")]


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the disk full from the first write on whose path contains a text."""

    def fill_at(name: str) -> None:
        is_full: list[bool] = []

        def check(path: object) -> None:
            if name in str(path):
                is_full.append(True)
            if is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        def write(path: pathlib.Path, *rest: object, **more: object) -> None:
            with files.writing(path):
                check(path)
            original_write(path, *rest, **more)

        def append(path: pathlib.Path, line: bytes) -> None:
            with files.writing(path):
                check(path)
            original_append(path, line)

        monkeypatch.setattr(files, "write_atomically", write)
        monkeypatch.setattr(record_files, "append_line", append)

    original_write, original_append = files.write_atomically, record_files.append_line
    return fill_at


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("metrics.jsonl", None),
        ("spectrum.jsonl", None),
        ("validation.jsonl", None),
        ("best.npz", None),
        (".step-000004", 2),
        ("result.json", 5),
        ("distilled.npz", 5),
        ("natural.npz", None),
        ("environment.json", None),
    ],
)
def test_the_run_ends_with_a_sentence_and_resumes_to_the_same_bits(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    fill: Callable[[str], None],
    name: str,
    step: int | None,
) -> None:
    carry_out(tmp_path / "quiet")
    folder = tmp_path / "run"
    fill(name)
    with pytest.raises(TemporaryError) as caught:
        carry_out(folder)
    monkeypatch.undo()  # there is space again
    sentence = str(caught.value)
    assert "No space left on device" in sentence
    assert str(folder / name.replace(".step", "checkpoints/step").split("-0")[0]) in sentence
    left = "There was no checkpoint yet" if step is None else f"Checkpoint {step} is intact"
    assert left in sentence
    assert "\n" not in sentence
    carry_out(folder)
    assert keys(folder) == keys(tmp_path / "quiet")


@pytest.mark.parametrize("name", ["status.json", "run.log", "events.jsonl"])
def test_a_run_goes_on_without_its_status_and_logs(
    tmp_path: pathlib.Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(path: pathlib.Path) -> None:
        if name in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    original_write, original_log = files.write_atomically, files.open_log

    def write(path: pathlib.Path, *rest: object, **more: object) -> None:
        refuse(path)
        original_write(path, *rest, **more)

    def open_log(path: pathlib.Path, *rest: object, **more: object) -> object:
        refuse(path)
        return original_log(path, *rest, **more)

    monkeypatch.setattr(files, "write_atomically", write)
    monkeypatch.setattr(files, "open_log", open_log)
    monkeypatch.setattr("kipper.server.scheduler.event_log.open_log", open_log)
    carry_out(tmp_path / "run")
    told = [each for each in warnings if "the run goes on without it" in each]
    assert len(told) == 1
    assert name in told[0]
    assert Workdir(tmp_path / "run").read_result() is not None


def test_the_end_of_a_run_is_told_even_on_a_full_disk(
    tmp_path: pathlib.Path, fill: Callable[[str], None]
) -> None:
    fill("distilled.npz")
    with pytest.raises(TemporaryError):
        carry_out(tmp_path / "run")
    status = read_status(tmp_path / "run" / "status.json")
    assert status.state == "failed"
    assert "distilled.npz cannot be written" in (status.message or "")
