"""`kipper distill --initial`: KIP starts from a distilled set."""

import json
import os
import shutil

import numpy as np
import pytest

from kipper.launch.main import run

pytestmark = pytest.mark.thorough

DIGITS = ["--dataset=digits", "--target_batch_size=150", "--test_limit=100"]


def _distill(workdir, *flags):
    return run(["distill", f"--workdir={workdir}", *DIGITS, *flags])


def _result(workdir):
    return json.loads((workdir / "result.json").read_text())


def _first_state(workdir):
    with np.load(workdir / "checkpoints" / "step-000000" / "state.npz") as arrays:
        return arrays["images"], arrays["labels"]


def _set(workdir):
    with np.load(workdir / "distilled.npz") as arrays:
        return arrays["images"], arrays["labels"]


def _refused(capsys, workdir, *fragments):
    """In one sentence, before anything is written."""
    error = capsys.readouterr().err
    assert error.startswith("kipper: ")
    assert error.count("\n") == 1
    for fragment in fragments:
        assert fragment in error
    assert not workdir.exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    assert _distill(workdir, "--learn_labels", "--steps=3") == 0
    return workdir


@pytest.fixture
def initial(finished):
    return f"--initial={finished / 'distilled.npz'}"


def test_it_starts_where_the_other_run_ended(finished, initial, tmp_path):
    assert _distill(tmp_path, initial, "--steps=2", "--learn_labels") == 0
    for got, expected in zip(_first_state(tmp_path), _set(finished), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    result, before = _result(tmp_path), _result(finished)
    assert result["initial_accuracy"] == before["test_accuracy"]
    assert result["natural_accuracy"] == before["natural_accuracy"]
    assert not np.array_equal(_set(tmp_path)[0], _set(finished)[0])


def test_it_can_be_resumed(initial, tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    assert _distill(short, initial, "--steps=1") == 0
    assert _distill(short, initial, "--steps=3") == 0
    assert _distill(long, initial, "--steps=3") == 0
    assert (short / "distilled.npz").read_bytes() == (long / "distilled.npz").read_bytes()


@pytest.mark.parametrize("preprocess", ["standard", "zca"])
@pytest.mark.parametrize("maker", ["another seed", "Label Solve"])
def test_a_set_of_another_seed_is_accepted(tmp_path, preprocess, maker):
    other, preprocess = tmp_path / "other", f"--preprocess={preprocess}"
    if maker == "another seed":
        assert _distill(other, preprocess, "--steps=0", "--seed=9") == 0
    else:
        flags = ["--dataset=digits", "--test_limit=100", preprocess, f"--workdir={other}"]
        assert run(["solve_labels", *flags]) == 0
    initial = f"--initial={other / 'distilled.npz'}"
    assert _distill(tmp_path / "run", preprocess, "--steps=0", initial) == 0
    np.testing.assert_array_equal(_first_state(tmp_path / "run")[0], _set(other)[0])


def test_a_set_that_does_not_fit_is_refused(finished, initial, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert _distill(workdir, initial, "--support_size=20") == 2
    _refused(capsys, workdir, "holds 10 images; give --support_size=10.")
    assert _distill(workdir, initial, "--preprocess=zca") == 2
    _refused(capsys, workdir, "was made with standard; give --preprocess=standard.")
    assert _distill(workdir, initial, "--dataset=mnist5k") == 2
    _refused(capsys, workdir, "(8, 8, 1)", "(28, 28, 1)")
    assert _distill(workdir, f"--initial={tmp_path / 'none.npz'}") == 2
    _refused(capsys, workdir, "There is no file", "none.npz")
    assert _distill(workdir, initial, "--support_init=noise") == 2
    _refused(capsys, workdir, "--initial excludes --support_init=noise")
    assert _distill(workdir, initial, "--freeze_pixels=0.5") == 2
    _refused(capsys, workdir, "--freeze_pixels")


def test_a_set_with_the_recipe_of_another_is_refused(finished, tmp_path, capsys):
    shutil.copy(finished / "preprocessing.npz", tmp_path)
    images, labels = _set(finished)
    np.savez(tmp_path / "distilled.npz", images=images + 1, labels=labels)
    assert _distill(tmp_path / "run", f"--initial={tmp_path / 'distilled.npz'}") == 2
    _refused(capsys, tmp_path / "run", "keep the files of a run together")


def test_statistics_of_other_images_are_refused(initial, tmp_path, capsys):
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.float32(1) - (pixels / 16).reshape(-1, 8, 8).astype(np.float32)
    np.savez(
        tmp_path / "negatives.npz",
        **{"x_train": images[:1500], "y_train": labels[:1500]},
        **{"x_test": images[1500:], "y_test": labels[1500:]},
    )
    flags = [f"--dataset=npz:{tmp_path / 'negatives.npz'}", initial]
    assert _distill(tmp_path / "run", *flags) == 2
    _refused(capsys, tmp_path / "run", "by the statistics of other training images")


def test_overwriting_the_run_that_it_comes_from_is_refused(finished, initial, capsys):
    before = sorted(os.listdir(finished))
    assert _distill(finished, initial, "--overwrite") == 2
    assert "--overwrite would remove --initial=" in capsys.readouterr().err
    assert sorted(os.listdir(finished)) == before


def test_a_released_file_is_sorted_by_class_and_its_name_is_parsed(finished, tmp_path, capsys):
    images, labels = _set(finished)
    order = np.random.default_rng(3).permutation(10)
    path = tmp_path / "ConvNet_ssize10_nozca_l_noaug_ckpt9.npz"
    np.savez(path, images=images[order], labels=labels[order].astype(np.float32))
    assert _distill(tmp_path / "run", f"--initial={path}", "--preprocess=zca") == 2
    _refused(capsys, tmp_path / "run", "was made with standard; give --preprocess=standard.")
    assert _distill(tmp_path / "run", f"--initial={path}", "--steps=0") == 0
    first_images, first_labels = _first_state(tmp_path / "run")
    sorted_again = np.argsort(labels[order].argmax(1), kind="stable")
    np.testing.assert_array_equal(first_images, images[order][sorted_again])
    np.testing.assert_array_equal(first_labels, np.float32(labels[order][sorted_again]))
    assert first_labels.dtype == np.float64
