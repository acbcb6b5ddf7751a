"""`kipper export`, and `kipper evaluate` on its output."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from kipper.launch.main import run

FLAGS = ["--dataset=digits", "--steps=3", "--target_batch_size=150", "--test_limit=100"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    assert run(["distill", f"--workdir={workdir}", "--learn_labels", *FLAGS]) == 0
    return workdir


def _export(path, form, output, *flags):
    return run(["export", f"--distilled={path}", f"--to={form}", f"--output={output}", *flags])


def _refused(capsys, *fragments):
    error = capsys.readouterr().err
    assert error.startswith("kipper: ")
    assert error.count("\n") == 1
    for fragment in fragments:
        assert fragment in error


def test_a_set_exported_as_released_has_the_same_accuracy(finished, tmp_path, capsys):
    assert _export(finished / "distilled.npz", "released", tmp_path / "new" / "folder") == 0
    path = tmp_path / "new" / "folder" / "fc1_ssize10_nozca_l_noaug_ckpt3.npz"
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_bytes() == (finished / "distilled.npz").read_bytes()
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.stem}.preprocessing.npz"]
    assert run(["evaluate", f"--distilled={path}"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (
        report["test_accuracy"]
        == json.loads((finished / "result.json").read_text())["test_accuracy"]
    )
    assert report["agrees_with_record"] is True
    assert err == ""


def test_the_best_snapshot_is_named_by_its_own_step(finished, tmp_path, capsys):
    assert _export(finished / "best.npz", "released", tmp_path) == 0
    records = [json.loads(x) for x in (finished / "validation.jsonl").read_text().splitlines()]
    best = max(records, key=lambda record: record["validation_accuracy"])["step"]
    assert f"_ckpt{best}.npz" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "output"),
    [("images", "out"), ("safetensors", "out.safetensors"), ("torchvision", "out.npz")],
)
def test_every_form_is_written_and_nothing_beside_it(finished, tmp_path, capsys, form, output):
    assert _export(finished / "distilled.npz", form, tmp_path / output) == 0
    assert capsys.readouterr() == (f"{tmp_path / output}\n", "")
    assert os.listdir(tmp_path) == [output]


def test_a_released_file_is_shown_in_pixels_with_a_refitted_preprocessing(tmp_path, capsys):
    """A fixture in the form of the release: natural digits, by the statistics of all of them."""
    from kipper.common.datasets import load_dataset
    from kipper.common.labels import centred_one_hot
    from kipper.common.preprocessing import fit_preprocessing

    digits = load_dataset("digits", None)
    images = fit_preprocessing("standard", digits.x_train).apply(digits.x_train[:3])
    path = tmp_path / "ConvNet_ssize3_nozca_nol_noaug_ckpt0.npz"
    np.savez(path, images=images, labels=centred_one_hot(digits.y_train[:3], 10))
    assert _export(path, "images", tmp_path / "out") == 2
    _refused(capsys, "give --dataset.")
    assert _export(path, "released", tmp_path / "out") == 2
    _refused(
        capsys,
        "--to=released needs ",
        "which does not exist, to name the set and say how to use it.",
    )
    assert not (tmp_path / "out").exists()
    assert _export(path, "images", tmp_path / "out", "--dataset=digits") == 0
    assert "says --preprocess=standard.\n" in capsys.readouterr().err
    with Image.open(tmp_path / "out" / f"0_{digits.y_train[0]}.png") as picture:
        expected = np.round(255 * digits.x_train[0, ..., 0])
        np.testing.assert_array_equal(np.asarray(picture), expected)
    np.savez(path, images=images[:, 1:], labels=centred_one_hot(digits.y_train[:3], 10))
    assert _export(path, "torchvision", tmp_path / "x.npz", "--dataset=digits") == 2
    sentence = "holds images of shape (7, 8, 1), but data set 'digits' has (8, 8, 1)"
    assert sentence in capsys.readouterr().err


def test_zca_is_warned_of_where_pixels_are_written(finished, tmp_path, capsys):
    workdir = tmp_path / "zca"
    assert run(["distill", f"--workdir={workdir}", "--preprocess=zca", *FLAGS, "--steps=1"]) == 0
    capsys.readouterr()
    assert _export(workdir / "distilled.npz", "torchvision", tmp_path / "x.npz") == 0
    assert "train on the images of --to=safetensors" in capsys.readouterr().err
    assert _export(workdir / "distilled.npz", "safetensors", tmp_path / "x.safetensors") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("form", "output", "sentence"),
    [
        ("pictures", "out", "pictures"),
        ("images", "", "--output is required"),
        ("images", "file", "which is a file"),
        ("images", "full", "which is not empty"),
        ("released", "file", "which is a file"),
        ("safetensors", "full", "it must be a file, in a folder that exists"),
        ("torchvision", "none/x.npz", "it must be a file, in a folder that exists"),
        ("released", "/proc/kipper", "cannot be written"),
    ],
)
def test_a_bad_output_is_refused_in_a_sentence(finished, tmp_path, capsys, form, output, sentence):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert _export(finished / "distilled.npz", form, tmp_path / output if output else "") == 2
    _refused(capsys, sentence)
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]
    assert os.listdir(tmp_path / "full") == ["mine.txt"]


def test_a_wrong_pair_is_not_exported(finished, tmp_path, capsys):
    shutil.copy(finished / "preprocessing.npz", tmp_path)
    with np.load(finished / "distilled.npz") as arrays:
        np.savez(tmp_path / "distilled.npz", images=arrays["images"][::-1], labels=arrays["labels"])
    assert _export(tmp_path / "distilled.npz", "images", tmp_path / "out") == 2
    _refused(capsys, "keep the files of a run together")
