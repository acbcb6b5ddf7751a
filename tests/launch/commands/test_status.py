"""kipper status and kipper list, on runs in every state."""

import json
import pathlib
import shutil
import socket

import pytest
from slurm_stand_in import SlurmStandIn

from kipper.common.sealed import read_object, write_object
from kipper.common.settings import DistillSettings, RunSettings, SolveLabelsSettings
from kipper.launch.cluster.meeting_point import MeetingPoint
from kipper.launch.commands.run_state import dashboard_lines, state_of
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
    start = printed.index(
        "numerics mixed: the bits of the result depend on which worker computed what"
    )
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
        assert lines["time left"] == "2 min 05 s"
    lines = told(capsys, str(workdir.path))
    assert lines["state"].startswith("died: ")
    assert lines["to resume"] == "give the same command again"
    assert "time left" not in lines
    say(workdir, host="another")  # whose lock cannot be seen from here, and which wrote just now
    assert state_of(workdir.path).state == "running"
    say(workdir, state="failed", message="The images are not finite.")
    lines = told(capsys, str(workdir.path))
    assert lines["state"].startswith("failed: The images are not finite; last status at")
    assert lines["to resume"] == "mend that, then give the same command again"
    workdir.status.unlink()
    assert told(capsys, str(workdir.path))["state"] == "not begun"
    workdir.status.write_text(before)


@pytest.mark.parametrize(
    ("queue", "state", "resume"),
    [
        ("echo 7 PENDING; echo 8 RUNNING", "waiting for Slurm's job 7, which is PENDING", None),
        ("echo 7 RUNNING", "waiting for Slurm's job 7, which is RUNNING", None),
        ("echo 8 RUNNING", "interrupted", "give the same command again"),
        ("exit 1", "interrupted", "give the same command again, unless squeue lists job 7"),
    ],
)
def test_a_run_that_slurm_will_go_on_with_invites_no_second_one(
    runs: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    queue: str,
    state: str,
    resume: str | None,
) -> None:
    SlurmStandIn(tmp_path, monkeypatch, squeue=queue)
    shutil.copytree(runs / "kip", tmp_path / "run")
    MeetingPoint(str(tmp_path / "run"), "7").open("8")
    say(Workdir(tmp_path / "run"), state="interrupted")
    lines = told(capsys, str(tmp_path / "run"))
    assert lines["state"].startswith(f"{state}; last status at")
    assert lines.get("to resume") == resume


def test_a_launch_that_has_not_begun_is_told(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    SlurmStandIn(tmp_path, monkeypatch, squeue="echo 7 PENDING")
    MeetingPoint(str(tmp_path), "7").open("8")
    assert run(["status", str(tmp_path)]) == 2
    assert "has not begun; it waits for Slurm's job 7, which is PENDING." in capsys.readouterr().err


def test_workers_that_slurm_has_given_up_are_named(
    runs: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    SlurmStandIn(tmp_path, monkeypatch, squeue="echo 7 RUNNING")
    shutil.copytree(runs / "kip", tmp_path / "run")
    MeetingPoint(str(tmp_path / "run"), "7").open("8")
    workdir = Workdir(tmp_path / "run")
    say(workdir, state="running", workers=0)
    with workdir.locked():
        lines = told(capsys, str(workdir.path))
    assert lines["workers"].startswith(
        "0; Slurm's job 8 has ended; slurm/worker-8_*.log in the run"
    )


def test_a_launcher_that_restarts_a_coordinator_is_told(
    runs: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "kip", tmp_path / "run")
    workdir = Workdir(tmp_path / "run")
    say(workdir, state="running")
    with workdir.launched():
        lines = told(capsys, str(workdir.path))
    assert lines["state"].startswith("waiting for the command that launched it; last status at")
    assert "to resume" not in lines


@pytest.mark.parametrize(
    ("host", "url", "page", "tunnel"),
    [
        (
            "node7",
            "http://127.0.0.1:8000",
            "http://127.0.0.1:8000 on node7",
            "from here: ssh -L 8000:127.0.0.1:8000 node7",
        ),
        ("node7", "http://node7:8000/?token=x", "http://node7:8000/?token=x", None),
        (socket.gethostname(), "http://127.0.0.1:8000", "http://127.0.0.1:8000", None),
    ],
)
def test_the_page_of_another_host_comes_with_a_tunnel_to_it(
    host: str, url: str, page: str, tunnel: str | None
) -> None:
    lines = dashboard_lines(url, host)
    assert lines[0] == ("dashboard", page)
    assert [line for _, line in lines[1:]] == ([tunnel] if tunnel else [])


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
