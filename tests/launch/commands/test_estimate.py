"""Estimates of a run against its own counts and files."""

import json

import numpy as np
import pytest

from kipper.common.settings import DistillSettings, RunSettings, SolveLabelsSettings
from kipper.launch.commands import bench as bench_module
from kipper.launch.commands import pace
from kipper.launch.commands.estimate import estimate_run
from kipper.launch.main import run as run_command
from kipper.launch.run import run
from kipper.server.checkpoint import MOST_UNNAMED

SMALL = {"workdir": "run", "dataset": "digits", "test_limit": 100, "dashboard": "none"}
KIP = {"steps": 9, "target_batch_size": 130, "block_support": 4, "block_target": 60, **SMALL}


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(pace, "SECONDS", 0.05)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        RunSettings.of(DistillSettings, learn_labels=True, optimiser="soap", **KIP),
        RunSettings.of(
            DistillSettings,
            sample_architectures="fc2,fc3",
            support_init="noise",
            augment="flip",
            solve_labels_every=4,
            eval_every=5,
            **KIP,
        ),
        RunSettings.of(
            SolveLabelsSettings, train_limit=700, block_support=4, block_target=60, **SMALL
        ),
    ],
    ids=["learned labels", "drawn architectures", "label solve"],
)
def test_pairs_are_those_that_the_run_counts(tmp_path, settings):
    settings = settings.replace(workdir=str(tmp_path / "run"))
    estimate = estimate_run(settings)
    assert not (tmp_path / "run").exists()
    result = run(settings)
    assert estimate.kernel_pairs == result.account.kernel_pairs
    assert estimate.vjp_pairs == result.account.vjp_pairs
    assert estimate.engine == result.account.engine
    assert estimate.seconds > 0
    files = list((tmp_path / "run/checkpoints").glob("*/state.npz"))
    found, count = sum(path.stat().st_size for path in files), len(files)
    most, size = estimate.checkpoints
    assert most - MOST_UNNAMED <= count <= most
    # Beside the arrays of each, their names and shapes, and the count of steps.
    with np.load(files[0]) as arrays:
        headers = 400 * len(arrays.files)
    assert 0 <= found - size / most * count <= headers * count


def test_a_dry_run_says_what_it_would_take_and_leaves_nothing(tmp_path, capsys):
    flags = ["--dataset=digits", f"--workdir={tmp_path / 'run'}", "--steps=3", "--test_limit=50"]
    assert run_command(["distill", "--dry_run", *flags]) == 0
    said = capsys.readouterr().out
    for word in ("steps", "evaluations", "validation", "in all", "memory", "checkpoints", "left"):
        assert word in said
    assert run_command(["bench", "distill", "--json", *flags]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["kernel_pairs"] == sum(p["times"] * p["pairs"] for p in estimate["parts"])
    parts = {part["name"]: part for part in estimate["parts"]}
    assert parts["steps"]["times"] == 3
    assert parts["evaluations"]["times"] == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--support_size=7"], "must be a multiple of the 10 classes"),
        (["--architecture=resnet"], "'resnet'"),
        (["--steps=-1"], "--steps is -1"),
        (["--workdir=/dev/null/run"], "cannot be written"),
    ],
)
def test_it_refuses_what_the_run_would_refuse(tmp_path, capsys, flags, sentence):
    command = ["distill", "--dataset=digits", f"--workdir={tmp_path / 'run'}", *flags]
    assert run_command([*command, "--dry_run"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_it_refuses_a_folder_of_another_run_and_leaves_it_as_it_is(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    command = ["distill", "--dataset=digits", f"--workdir={tmp_path}", "--dry_run"]
    assert run_command(command) == 2
    assert "is not a kipper configuration" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_bench_measures_what_can_run_here(capsys, monkeypatch):
    monkeypatch.setattr(bench_module, "LEAST_REPETITIONS", 1)
    command = ["bench", "--architecture=fc1", "--image_shape=4x4x1", "--seconds=0.2", "--json"]
    assert run_command(command) == 0
    found = json.loads(capsys.readouterr().out)
    rates = {rate["engine"]: rate for rate in found["engines"]}
    assert "dense" in rates
    assert set(rates) | set(found["missing"]) == set(bench_module.ENGINES[1:])
    for rate in rates.values():
        assert rate["pairs_per_second"] == pytest.approx(1000 / rate["ms_per_pair"])
        assert np.isfinite(rate["ms_per_pair_with_vjp"])
        assert rate["arithmetic"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--image_shape=28x28"], "HEIGHTxWIDTHxCHANNELS"),
        (["--seconds=0"], "above 0"),
        (["--architecture=resnet"], "'resnet'"),
        (["--architecture=fc1", "--engine=banded_cpu"], "convolutional ReLU networks only"),
        (["--dataset=nothing"], "nothing"),
    ],
)
def test_bench_refuses_in_a_sentence(capsys, flags, sentence):
    assert run_command(["bench", *flags]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
