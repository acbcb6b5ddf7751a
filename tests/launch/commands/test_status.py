"""kipper status and kipper list, on runs in every state."""

import json
import pathlib
import shutil

import pytest

from kipper.common.sealed import read_object, write_object
from kipper.common.settings import DistillSettings, RunSettings, SolveLabelsSettings
from kipper.launch.commands.run_state import state_of
from kipper.launch.coordinator import run_inprocess
from kipper.launch.main import run
from kipper.server.workdir import Workdir

FEW = {"dataset": "digits", "train_limit": 200, "test_limit": 50, "num_workers": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a run of each algorithm, one of them two folders deep."""
    top = tmp_path_factory.mktemp("runs")
    run_inprocess(RunSettings.of(DistillSettings, workdir=str(top / "kip"), steps=3, **FEW))
    run_inprocess(RunSettings.of(SolveLabelsSettings, workdir=str(top / "deep" / "ls"), **FEW))
    return top


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """The lines that kipper status prints, by name."""
    assert run(["status", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line[:10].strip(): line[10:].strip() for line in lines}


def say(workdir: Workdir, **fields: object) -> None:
    write_object(workdir.status, read_object(workdir.status) | fields)


def test_a_finished_run_is_described_by_its_result(
    runs: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(capsys, str(runs / "kip"))
    result = json.loads((runs / "kip" / "result.json").read_text())
    assert lines["what"] == "KIP of digits with fc1, 10 images"
    assert lines["state"].startswith("finished; last status at 20")
    assert lines["progress"] == "step 3 of 3"
    assert lines["test"].startswith(f"accuracy {100 * result['test_accuracy']:.1f} %")
    assert lines["numerics"].startswith("workers: dense by native code ")
    assert lines[""].startswith("coordinator: ")
    assert f"of natural images {100 * result['natural_accuracy']:.1f}" in lines["test"]


def test_mixed_numerics_and_the_wait_for_a_worker_are_told(
    runs: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = Workdir(runs / "kip")
    before = workdir.status.read_text()
    numerics = {"workers": ["hands", "beads"], "coordinators": ["ink"]}
    say(workdir, state="running", numerics=numerics, waits_for="hands or beads")
    with workdir.locked():
        assert run(["status", str(workdir.path)]) == 0
    workdir.status.write_text(before)
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    start = printed.index("numerics mixed: the bits of the result depend on who computed what")
    assert printed[start + 1 : start + 5] == [
        "workers: hands",
        "workers: beads",
        "coordinator: ink",
        "waits for a worker that computes by hands or beads",
    ]


def test_a_live_run_shows_its_progress_and_a_dead_one_that_it_died(
    runs: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = Workdir(runs / "kip")
    before = workdir.status.read_text()
    say(workdir, state="running", step=2, seconds_left=125)
    with workdir.locked():
        lines = told(capsys, str(workdir.path))
        assert lines["state"].startswith("running; ")
        assert lines["time left"] == "2:05"
    lines = told(capsys, str(workdir.path))
    assert lines["state"].startswith("died: ")
    assert lines["to resume"] == "give the same command again"
    assert "time left" not in lines
    say(workdir, host="another")  # whose lock cannot be seen from here, and which wrote just now
    assert state_of(workdir.path).state == "running"
    say(workdir, state="failed", message="The images are not finite.")
    assert "failed: The images are not finite." in told(capsys, str(workdir.path))["state"]
    workdir.status.unlink()
    assert told(capsys, str(workdir.path))["state"] == "not begun"
    workdir.status.write_text(before)


def test_every_run_in_nested_folders_is_listed(
    runs: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", str(runs)]) == 0
    heads, *lines = capsys.readouterr().out.splitlines()
    assert heads.split() == ["run", "state", "what", "images", "progress", "test"]
    assert [line.split()[0] for line in lines] == [str(runs / "deep/ls"), str(runs / "kip")]
    assert "LS of digits with fc1" in lines[0]


def test_a_run_of_a_later_version_does_not_hide_the_others(
    runs: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "deep" / "ls", tmp_path / "later")
    shutil.copytree(runs / "kip", tmp_path / "now")
    config = json.loads((tmp_path / "later" / "config.json").read_text())
    (tmp_path / "later" / "config.json").write_text(json.dumps(config | {"command": "Alchemy"}))
    config = json.loads((tmp_path / "now" / "config.json").read_text())
    config["settings"]["of_a_later_version"] = True
    (tmp_path / "now" / "config.json").write_text(json.dumps(config))
    assert run(["list", str(tmp_path)]) == 0
    listed = capsys.readouterr()
    assert "no algorithm with 'Alchemy'" in listed.err
    (_, line) = listed.out.splitlines()
    assert line.split()[:4] == [str(tmp_path / "now"), "finished", "KIP", "of"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["status"], "The folder of a run is missing"),
        (["status", "{top}"], "is not the folder of a run"),
        (["list", "{top}/nowhere"], "There is no folder"),
        (["list", "{top}/kip/logs"], "There is no run in"),
    ],
)
def test_a_folder_without_runs_is_refused(
    runs: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    assert run([word.format(top=runs) for word in arguments]) == 2
    assert sentence in capsys.readouterr().err
