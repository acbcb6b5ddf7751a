"""`kipper transfer`: results, files, and error messages."""

import json

import numpy as np
import pytest

from kipper.launch.commands.transfer import trial
from kipper.launch.main import run

pytestmark = pytest.mark.thorough

FLAGS = ["--width=256", "--steps=100", "--curve_images=100"]


def transfer(distilled, *flags):
    return run(["transfer", f"--distilled={distilled / 'distilled.npz'}", *FLAGS, *flags])


def without_seconds(networks):
    return [{**network, "seconds": None} for network in networks]


@pytest.fixture(scope="module")
def transferred(distilled, tmp_path_factory):
    """The folder of results of two networks."""
    folder = tmp_path_factory.mktemp("transferred")
    assert transfer(distilled, "--seeds=2", f"--output={folder}") == 0
    return folder


def test_networks_learn_and_the_report_says_how_well(distilled, transferred):
    report = json.loads((transferred / "transfer.json").read_text())
    accuracies = [network["test_accuracy"] for network in report["networks"]]
    assert report["test_accuracy"] == pytest.approx(np.mean(accuracies))
    assert report["test_accuracy_spread"] == pytest.approx(np.std(accuracies, ddof=1))
    assert report["test_accuracy"] > 0.5
    assert [network["train_accuracy"] for network in report["networks"]] == [1.0, 1.0]
    recorded = json.loads((distilled / "result.json").read_text())["test_accuracy"]
    assert report["kernel_regression"] == {
        "test_accuracy": recorded,
        "architecture": "fc1",
        "kernel": "ntk",
        "recorded": True,
    }
    assert report["change"] == pytest.approx(report["test_accuracy"] - recorded)
    assert report["networks"][0]["parameters"] == 64 * 256 + 256 + 256 * 10 + 10
    assert (report["support_size"], report["test_size"]) == (50, 360)
    assert (transferred / "figures" / "transfer.png").read_bytes().startswith(b"\x89PNG")


def test_the_curve_has_the_milestones_of_each_seed(transferred):
    lines = (transferred / "transfer_curve.jsonl").read_text().splitlines()
    curve = [json.loads(line) for line in lines]
    milestones = [0, 1, 2, 4, 6, 8, 12, 18, 26, 37, 54, 78, 100]
    expected = [(seed, step) for seed in (0, 1) for step in milestones]
    assert [(record["seed"], record["step"]) for record in curve] == expected
    assert curve[12]["loss"] < 0.1 * curve[0]["loss"]
    assert 0 <= curve[12]["validation_accuracy"] <= 1


def test_the_same_seed_gives_the_same_network(distilled, transferred, tmp_path, capsys):
    assert transfer(distilled, "--seeds=1", f"--output={tmp_path}") == 0
    captured = capsys.readouterr()
    again, before = (
        json.loads((folder / "transfer.json").read_text()) for folder in (tmp_path, transferred)
    )
    assert without_seconds(again["networks"]) == without_seconds(before["networks"][:1])
    assert again["test_accuracy_spread"] is None
    assert json.loads(captured.out) == again
    assert "seed 0  step   100" in captured.err


def test_a_convolutional_network_by_cross_entropy_in_batches(distilled, tmp_path, capsys):
    flags = ["--architecture=conv_vec1", "--loss=cross_entropy", "--batch_size=4", "--seeds=1"]
    smaller = ["--width=8", "--steps=5", "--max_lr_factor=0.1", "--test_limit=100"]
    assert transfer(distilled, *flags, *smaller, f"--output={tmp_path}") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["architecture"] == "conv_vec1"
    assert report["test_size"] == 100
    # With another architecture than the recorded one.
    assert report["kernel_regression"]["recorded"] is False
    assert report["kernel_regression"]["architecture"] == "conv_vec1"


def test_a_file_without_a_recipe_gets_one_by_flags(distilled, tmp_path, capsys):
    alone = tmp_path / "alone.npz"
    alone.write_bytes((distilled / "distilled.npz").read_bytes())
    flags = [f"--distilled={alone}", "--seeds=1", *FLAGS]
    assert run(["transfer", *flags]) == 2
    assert "give --dataset, --preprocess, --architecture" in capsys.readouterr().err
    told = ["--dataset=digits", "--preprocess=standard", "--architecture=fc1"]
    assert run(["transfer", *flags, *told]) == 0
    assert json.loads(capsys.readouterr().out)["test_accuracy"] > 0.5
    assert (tmp_path / "transfer.json").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--distilled=none.npz"], "There is no file none.npz."),
        (["--distilled="], "--distilled is required"),
        (["--width=0"], "--width is 0; it must be 1 or more."),
        (["--steps=0"], "--steps is 0; it must be 1 or more."),
        (["--seeds=0"], "--seeds is 0; it must be 1 or more."),
        (["--l2=-1"], "--l2 is -1.0; it must be a finite number 0 or more."),
        (["--max_lr_factor=0"], "--max_lr_factor is 0.0; it must be a finite number above 0."),
        (["--max_lr_factor=nan"], "--max_lr_factor is nan"),
        (["--loss=hinge"], "hinge"),
        (["--architecture=resnet"], "Unknown architecture 'resnet'"),
        (["--preprocess=zca"], "--preprocess cannot be given"),
        (["--output=/proc/kipper"], "cannot be written"),
        (["--all_kernels", "--max_minutes=0"], "--max_minutes is 0.0; it must be above 0."),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_status_2(distilled, capsys, flags, sentence):
    before = set(distilled.rglob("*"))
    assert transfer(distilled, *flags) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("kipper: ")
    assert error.count("\n") == 1
    assert set(distilled.rglob("*")) == before


def test_training_that_diverges_says_so_and_writes_nothing(distilled, tmp_path, capsys):
    assert transfer(distilled, "--max_lr_factor=1e6", f"--output={tmp_path}") == 1
    assert "--max_lr_factor" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def interrupt(monkeypatch, seed):
    """Ctrl-C at the first point of the curve of the network with that seed."""
    seconds_left = trial.NetworkTrial.seconds_left

    def interrupted(self, at, step):
        if at == seed:
            raise KeyboardInterrupt
        return seconds_left(self, at, step)

    monkeypatch.setattr(trial.NetworkTrial, "seconds_left", interrupted)


def test_an_interruption_leaves_earlier_results_whole(distilled, transferred, capsys, monkeypatch):
    files = [path for path in transferred.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    interrupt(monkeypatch, seed=0)
    assert transfer(distilled, "--steps=20", f"--output={transferred}") == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "kipper: Interrupted; no network was finished."
    )
    assert {path: path.read_bytes() for path in files} == before


def test_the_same_command_continues_with_the_next_network(
    distilled, transferred, tmp_path, capsys, monkeypatch
):
    with monkeypatch.context() as patches:
        interrupt(patches, seed=1)
        assert transfer(distilled, "--seeds=2", f"--output={tmp_path}") == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "kipper: Interrupted after 1 of 2 networks; the same command resumes."
    )
    assert not (tmp_path / "transfer.json").exists()
    assert transfer(distilled, "--seeds=2", f"--output={tmp_path}") == 0
    said = capsys.readouterr().err
    assert "1 of 2 networks are already finished" in said
    assert "seed 0" not in said
    whole, resumed = (
        json.loads((folder / "transfer.json").read_text()) for folder in (transferred, tmp_path)
    )
    assert without_seconds(resumed["networks"]) == without_seconds(whole["networks"])
    points = [
        [(one["seed"], one["step"], one["loss"]) for one in map(json.loads, lines)]
        for lines in (
            (folder / "transfer_curve.jsonl").read_text().splitlines()
            for folder in (transferred, tmp_path)
        )
    ]
    assert points[0] == points[1]
    assert not (tmp_path / "transfer_unfinished.json").exists()


@pytest.mark.thorough
@pytest.mark.parametrize("flag", ["--steps=90", "--l2=0.01", "--width=128"])
def test_networks_of_another_experiment_are_not_taken(
    distilled, tmp_path, capsys, monkeypatch, flag
):
    with monkeypatch.context() as patches:
        interrupt(patches, seed=1)
        assert transfer(distilled, "--seeds=2", f"--output={tmp_path}") == 130
    assert transfer(distilled, "--seeds=1", flag, f"--output={tmp_path}") == 0
    assert "seed 0" in capsys.readouterr().err


def test_an_unfinished_file_that_is_damaged_is_none(distilled, tmp_path, capsys):
    (tmp_path / "transfer_unfinished.json").write_text("[1, 2")
    assert transfer(distilled, "--seeds=1", "--steps=2", f"--output={tmp_path}") == 0
    assert json.loads(capsys.readouterr().out)["test_size"] == 360
