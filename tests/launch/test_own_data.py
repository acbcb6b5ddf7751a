"""Runs on images of a folder, and with a network from a file."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from installation import needs_launchpad, needs_neural_tangents
from PIL import Image
from runs import metrics

from kipper.common.datasets import load_dataset
from kipper.launch.main import run

NETWORK = """
from kipper.workers.neural_tangents import relu, stax

def make():
    return stax.serial(stax.Flatten(), stax.Dense(1, W_std=2, b_std=0.1), relu(), stax.Dense(1))
"""
FLAGS = ("--support_size=10", "--target_batch_size=50", "--block_target=20", "--learn_labels")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Digits as PNGs, without a split."""
    root = tmp_path_factory.mktemp("digits")
    digits = load_dataset("digits", None)
    for i in range(200):
        path = root / str(digits.y_train[i]) / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.rint(255 * digits.x_train[i, ..., 0]).astype(np.uint8)).save(path)
    return root


def test_images_of_a_folder_are_distilled(folder, tmp_path, capsys):
    command = ["distill", f"--workdir={tmp_path}", f"--dataset=folder:{folder}", *FLAGS]
    assert run([*command, "--steps=20"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["test_accuracy"] > max(0.6, result["natural_accuracy"])
    path = next(folder.glob("3/*.png"))
    bits = path.read_bytes()
    Image.new("L", (8, 8)).save(path)
    assert run([*command, "--steps=21"]) == 2
    assert "a run on other data" in capsys.readouterr().err
    path.write_bytes(bits)


def _command(workdir, folder, network, *flags):
    at = [f"--workdir={workdir}", f"--dataset=folder:{folder}", f"--architecture={network}:make"]
    return ["distill", *at, *FLAGS, *flags]


@pytest.fixture
def network(tmp_path) -> pathlib.Path:
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return path


def _distil(workdir, folder, network, *flags) -> bytes:
    """In another process; the distilled set."""
    command = _command(workdir, folder, network, *flags)
    subprocess.run([sys.executable, "-m", "kipper", *command], check=True, capture_output=True)
    return (workdir / "distilled.npz").read_bytes()


@pytest.mark.slow
@needs_neural_tangents
@needs_launchpad
def test_a_network_from_a_file_is_the_same_in_every_launch(folder, tmp_path, network):
    one = _distil(tmp_path / "one", folder, network, "--steps=4")
    for launch in ("local_mt", "local_mp"):
        flags = ("--steps=4", f"--launch={launch}")
        assert _distil(tmp_path / launch, folder, network, *flags) == one
        assert metrics(tmp_path / launch) == metrics(tmp_path / "one")


@pytest.mark.thorough
@needs_neural_tangents
def test_a_network_from_a_file_is_resumed_and_evaluated_if_it_is_the_same(
    folder, tmp_path, network, capsys
):
    for name, steps in (("one", 1), ("one", 2), ("two", 2)):
        assert run(_command(tmp_path / name, folder, network, f"--steps={steps}")) == 0
    one, two = (tmp_path / name / "distilled.npz" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    capsys.readouterr()

    evaluation = ["evaluate", f"--distilled={tmp_path / 'one' / 'distilled.npz'}"]
    assert run(evaluation) == 2
    assert "give --architecture=FOLDER/net.py:make." in capsys.readouterr().err
    assert run([*evaluation, f"--architecture={network}:make"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["test_accuracy"] == report["recorded_test_accuracy"]

    network.write_text(NETWORK.replace("relu()", "stax.Erf()"))
    assert run(_command(tmp_path / "one", folder, network, "--steps=3")) == 2
    assert f"the file of architecture {network}:make has changed" in capsys.readouterr().err


@needs_neural_tangents
def test_an_invalid_network_is_refused_and_nothing_is_written(folder, tmp_path, network, capsys):
    network.write_text(NETWORK.replace("stax.Flatten(), ", ""))
    assert run(_command(tmp_path / "run", folder, network)) == 2
    error = capsys.readouterr().err
    assert "net.py: the kernel of make() is float64 of shape (1, 2, 8, 8" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
