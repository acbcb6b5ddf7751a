"""Damaged small files of a run: they block nothing, lose nothing, and are reported."""

import json
import os
import pathlib
import random
import shutil
from collections.abc import Callable

import pytest
from tiny_runs import kip_settings, tiny_session

from kipper.common.errors import UserError
from kipper.common.sealed import sealed
from kipper.launch.commands.run_state import lines_about, state_of
from kipper.launch.main import run as run_command
from kipper.server.algorithms import algorithm_of
from kipper.server.distilled_set import load_distilled, read_set, set_key
from kipper.server.measures import ACCURACY, Score
from kipper.server.report.page import render
from kipper.server.report.run_files import read_run
from kipper.server.report.writing import activity_of, again
from kipper.server.snapshots import BestKeeper
from kipper.server.workdir import Workdir

SMALL = (
    "metrics.jsonl",
    "validation.jsonl",
    "spectrum.jsonl",
    "status.json",
    "result.json",
    "environment.json",
    "logs/events.jsonl",
)


def carry_out(folder: pathlib.Path) -> str:
    """Runs or resumes in a folder; returns the key of the set."""
    settings = kip_settings(folder)
    with tiny_session(settings, score_validation=False) as session:
        keeper = BestKeeper(
            session.workdir, lambda images, _: Score(ACCURACY, float(images.mean()) % 1)
        )
        algorithm_of(settings.compute).run(session, keeper)
    return set_key(*load_distilled(Workdir(folder).distilled))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, str]:
    """A run, and the key of its set."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, carry_out(folder)


@pytest.fixture
def copy(finished: tuple[pathlib.Path, str], tmp_path: pathlib.Path) -> pathlib.Path:
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def replaced_by_a_folder(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "thesis.txt").write_text("mine")


def a_pipe(path: pathlib.Path) -> None:
    path.unlink()
    os.mkfifo(path)


def with_values(**values: object) -> Callable[[pathlib.Path], None]:
    """Values of other types in each object of a file, with a checksum that fits."""

    def damage(path: pathlib.Path) -> None:
        objects = [json.loads(line) for line in _objects(path)]
        for each in objects:
            del each["checksum"]
            each.update({name: value for name, value in values.items() if name in each})
        path.write_text("\n".join(json.dumps(sealed(each)) for each in objects) + "\n")

    return damage


def _objects(path: pathlib.Path) -> list[str]:
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def edited(change: Callable[[bytes], bytes]) -> Callable[[pathlib.Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


DAMAGE: dict[str, Callable[[pathlib.Path], object]] = {
    "empty": edited(lambda _: b""),
    "bad byte": edited(lambda old: old[:20] + b"\xff" + old[21:]),
    "cut": edited(lambda old: old[: len(old) // 2]),
    "bare number": edited(lambda old: b"7\n" + old),
    "list": edited(lambda old: b"[]\n" + old),
    "null": edited(lambda _: b"null\n"),
    "deep": edited(lambda old: b"[" * 100_000 + b"\n" + old),
    "huge number": edited(lambda old: b'{"step": ' + b"9" * 400 + b"}\n" + old),
    "NaN": edited(lambda old: b'{"step": NaN}\n' + old),
    "number changed": edited(lambda old: old.replace(b"1", b"7", 1)),
    "folder": replaced_by_a_folder,
    "pipe": a_pipe,
    "texts": with_values(
        step="four", loss="low", seconds=[1], test_accuracy="high", kernel_pairs={}, state=3
    ),
    "negative": with_values(step=-4),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", SMALL)
def test_a_damaged_file_blocks_neither_readers_nor_the_run(
    finished: tuple[pathlib.Path, str], copy: pathlib.Path, name: str, damage: str
) -> None:
    path = copy / name
    DAMAGE[damage](path)
    lines_about(state_of(copy))
    run = read_run(copy)
    render(run, again(run), {}, activity_of(run))
    assert run_command(["list", str(copy.parent)]) == 0
    assert carry_out(copy) == finished[1]
    assert [each.step for each in Workdir(copy).evaluations()] == [
        each.step for each in Workdir(finished[0]).evaluations() if each.step >= 0
    ] or name == "metrics.jsonl"
    if damage == "folder" and not name.startswith("logs"):
        assert (copy / f"{name}.damaged" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["metrics.jsonl", "spectrum.jsonl"])
def test_a_damaged_line_is_told_and_kept(
    copy: pathlib.Path, name: str, warnings: list[str]
) -> None:
    lines = (copy / name).read_bytes().splitlines(keepends=True)
    damaged = lines[1].replace(b'"step": 1', b'"step": 3')
    (copy / name).write_bytes(b"".join([lines[0], damaged, *lines[2:]]))
    read_run(copy)
    assert any(f"Line 2 of {copy / name} is left out" in each for each in warnings)
    assert any("lacks the evaluations of steps 1" in each for each in warnings)
    assert (copy / name).read_bytes().count(b"\n") == len(lines)  # readers change nothing
    carry_out(copy)
    assert (copy / f"{name}.damaged").read_bytes() == damaged
    assert any(f"Line 2 of {copy / name} is moved to {name}.damaged" in each for each in warnings)


def test_a_damaged_configuration_refuses_in_one_sentence(copy: pathlib.Path) -> None:
    (copy / "config.json").write_bytes(b"\xff{")
    for action in (lambda: read_run(copy), lambda: carry_out(copy)):
        with pytest.raises(UserError, match=r"config\.json is not a kipper configuration"):
            action()


def test_a_configuration_that_was_changed_is_told(copy: pathlib.Path, warnings: list[str]) -> None:
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace('"launch": "inprocess"', '"launch": "local_mt"'))
    read_run(copy)
    assert any("has been changed since kipper wrote it" in each for each in warnings)


def test_a_best_set_that_was_damaged_is_made_anew(copy: pathlib.Path, warnings: list[str]) -> None:
    before = (copy / "best.npz").read_bytes()
    damaged = bytearray(before)
    damaged[len(before) // 2] ^= 1
    (copy / "best.npz").write_bytes(damaged)
    carry_out(copy)
    assert (copy / "best.npz").read_bytes() == before
    assert (copy / "best.npz.damaged").read_bytes() == damaged
    assert any("made again from checkpoint" in each for each in warnings)


@pytest.mark.parametrize("name", ["distilled.npz", "best.npz", "preprocessing.npz"])
def test_every_flipped_bit_of_a_set_is_refused_or_harmless(copy: pathlib.Path, name: str) -> None:
    content, rng = (copy / name).read_bytes(), random.Random(name)
    before = set_key(*load_distilled(copy / "distilled.npz"))
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (copy / name).write_bytes(damaged)
        try:
            found = read_set(copy / "distilled.npz")
        except UserError:
            continue
        assert set_key(found.images, found.labels) == before
