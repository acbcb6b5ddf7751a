"""`kipper evaluate`: sets with their recipes, sets that were mixed up, and released files."""

import json
import shutil
import warnings

import numpy as np
import pytest

from kipper.launch.main import run

SHORT = ["--steps=3", "--target_batch_size=150", "--test_limit=100", "--seed=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Coloured images of two classes, in a file."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    images = rng.integers(0, 200, (400, 8, 8, 3), np.uint8)
    images[labels == 1, :, 4:, 0] += 40
    path = tmp_path_factory.mktemp("data") / "colours.npz"
    np.savez(
        path,
        **{"x_train": images[:300], "y_train": labels[:300]},
        **{"x_test": images[300:], "y_test": labels[300:]},
        class_names=np.array(["plain", "red"]),
    )
    return path


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished run with ZCA on these images."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    flags = ["--preprocess=zca", "--support_size=4", "--learn_labels", *SHORT]
    assert run(["distill", f"--workdir={workdir}", f"--dataset=npz:{data}", *flags]) == 0
    return workdir


@pytest.fixture
def pair(finished, tmp_path):
    """Its two files, by themselves."""
    for name in ("distilled.npz", "preprocessing.npz"):
        shutil.copy(finished / name, tmp_path)
    return tmp_path


def _evaluate(path, *flags):
    return run(["evaluate", f"--distilled={path}", *flags])


def _result(workdir):
    return json.loads((workdir / "result.json").read_text())


def _refused(capsys, *fragments):
    """The command must have said all of it in one sentence."""
    error = capsys.readouterr().err
    assert error.startswith("kipper: ")
    assert error.count("\n") == 1
    for fragment in fragments:
        assert fragment in error


def test_the_recorded_accuracy_is_found_again(finished, pair, capsys):
    assert _evaluate(pair / "distilled.npz") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["test_accuracy"] == report["recorded_test_accuracy"]
    assert report["test_accuracy"] == _result(finished)["test_accuracy"]
    assert report["agrees_with_record"] is True
    assert report["numerics"]["mixed"] is False
    assert report["numerics"]["workers"][0].startswith("dense by native code ")
    assert err == ""


def test_the_best_snapshot_is_known_with_its_score(finished, capsys):
    assert _evaluate(finished / "best.npz") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["agrees_with_record"] is True
    assert report["test_accuracy"] == _result(finished)["best_accuracy"]


def test_files_of_two_runs_are_refused(data, pair, tmp_path, capsys):
    flags = [f"--dataset=npz:{data}", "--preprocess=zca", "--support_size=4", *SHORT]
    assert run(["distill", f"--workdir={tmp_path / 'other'}", *flags, "--steps=2"]) == 0
    capsys.readouterr()
    shutil.copy(tmp_path / "other" / "distilled.npz", pair)
    assert _evaluate(pair / "distilled.npz") == 2
    _refused(capsys, "not one of the sets that", "keep the files of a run together")


def test_an_accuracy_that_is_off_is_said(pair, capsys):
    with np.load(pair / "preprocessing.npz") as file:
        arrays = dict(file)
    # As if the whitening had been lost: the set is the same, its space is not.
    arrays["preprocessing_whitening"] = np.eye(192) - 1 / 192
    np.savez(pair / "preprocessing.npz", **arrays)
    assert _evaluate(pair / "distilled.npz") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["agrees_with_record"] is False
    assert f"The accuracy is {100 * report['test_accuracy']:.1f} %, but the run recorded" in err


@pytest.mark.parametrize(
    "flags", [["--ridge=0.1"], ["--architecture=fc2"], ["--test_limit=50"], ["--kernel=nngp"]]
)
def test_other_settings_have_no_record(pair, capsys, flags):
    assert _evaluate(pair / "distilled.npz", *flags) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["agrees_with_record"] is None
    assert err == ""


def test_other_data_are_said(data, pair, tmp_path, capsys):
    with np.load(data) as file:
        arrays = dict(file)
    arrays["x_test"] = arrays["x_test"][:, ::-1]
    kept = data.read_bytes()
    np.savez(data, **arrays)
    try:
        assert _evaluate(pair / "distilled.npz") == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["agrees_with_record"] is None
        assert "are not those that the run used" in err
        assert _evaluate(pair / "distilled.npz", f"--dataset=npz:{data}") == 0
        assert capsys.readouterr().err == ""
    finally:
        data.write_bytes(kept)


def test_a_recipe_of_an_early_version_is_used_and_said(finished, pair, capsys):
    with np.load(pair / "preprocessing.npz") as file:
        arrays = {k: v for k, v in file.items() if k not in ("origin", "pixel_range")}
    settings = json.loads(str(arrays["settings"])) | {"test_accuracy": 0.25}
    arrays["settings"] = np.array(json.dumps(settings))
    np.savez(pair / "preprocessing.npz", **arrays)
    assert _evaluate(pair / "distilled.npz") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["test_accuracy"] == _result(finished)["test_accuracy"]
    assert report["recorded_test_accuracy"] == 0.25
    assert report["agrees_with_record"] is None
    assert "is from an early version" in err


def test_a_run_that_goes_on_knows_its_earlier_set_and_a_new_one_none(
    data, tmp_path, capsys, monkeypatch
):
    def dies(*arguments):
        raise OSError("no space left on device")

    old, new = tmp_path / "old", tmp_path / "new"
    flags = [f"--dataset=npz:{data}", "--support_size=4", *SHORT]
    assert run(["distill", f"--workdir={old}", *flags]) == 0
    monkeypatch.setattr("kipper.server.kip_run.run_kip", dies)
    for workdir in (old, new):
        with pytest.raises(OSError, match="no space"):
            run(["distill", f"--workdir={workdir}", *flags, "--steps=4"])
    capsys.readouterr()
    assert _evaluate(old / "distilled.npz") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["agrees_with_record"] is True
    assert err == ""
    shutil.copy(old / "distilled.npz", new)
    assert _evaluate(new / "distilled.npz") == 0
    assert "is from a run that has not finished" in capsys.readouterr().err


@pytest.fixture
def released(data, tmp_path):
    """A file as released ones are, in the ZCA space of all training images."""
    flags = ["--preprocess=zca", "--support_size=4", "--architecture=fc2"]
    assert (
        run(["solve_labels", f"--workdir={tmp_path / 'run'}", f"--dataset=npz:{data}", *flags]) == 0
    )
    path = tmp_path / "fc2_ssize4_zca.npz"
    shutil.copy(tmp_path / "run" / "distilled.npz", path)
    return path


def test_a_released_file_says_by_its_name_how_it_was_made(data, released, tmp_path, capsys):
    capsys.readouterr()
    assert _evaluate(released) == 2
    _refused(capsys, "which says how the set was made, does not exist; give --dataset.")
    assert _evaluate(released, f"--dataset=npz:{data}") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == (
        "kipper: The name of fc2_ssize4_zca.npz says --architecture=fc2 --preprocess=zca.\n"
    )
    # Label Solve takes all training images, as evaluate does without a recipe.
    assert report["test_accuracy"] == _result(tmp_path / "run")["test_accuracy"]
    assert (report["recorded_test_accuracy"], report["agrees_with_record"]) == (None, None)


def test_flags_may_add_to_a_name_but_not_contradict_its_space(data, released, capsys):
    capsys.readouterr()
    dataset = f"--dataset=npz:{data}"
    assert _evaluate(released, dataset, "--architecture=fc1") == 0
    assert "says --preprocess=zca.\n" in capsys.readouterr().err
    assert _evaluate(released, dataset, "--preprocess=standard") == 2
    _refused(capsys, "--preprocess is standard, but the name of")
    renamed = released.rename(released.with_name("anything.npz"))
    assert _evaluate(renamed, dataset, "--preprocess=zca") == 2
    _refused(capsys, "give --architecture.")


def test_a_file_released_with_rfad(finished, data, tmp_path, capsys):
    """Channels come first; `k` is the logarithm of a scale of predictions, `jit` the ridge."""
    with np.load(finished / "distilled.npz") as found:
        images, labels = found["images"].astype(np.float32), found["labels"]
    np.savez(tmp_path / "ours.npz", images=images, labels=labels)
    first = np.moveaxis(images, -1, 1)
    others = {"k": np.array(1.5), "jit": np.array(0.005), "valid_loss": np.array(0.3)}
    np.savez(tmp_path / "best.npz", images=first, labels=labels, **others)
    flags = (f"--dataset=npz:{data}", "--preprocess=zca", "--architecture=fc1", "--kernel=nngp")
    reports = []
    for name, more in (("ours", ["--ridge=0.005"]), ("best", [])):
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            assert _evaluate(tmp_path / f"{name}.npz", *flags, *more) == 0
        out, err = capsys.readouterr()
        reports.append(json.loads(out))
    assert "the images are of shape (4, 3, 8, 8), with channels first" in err
    assert "best.npz says --ridge=0.005 (its jit)." in err
    assert "best.npz holds a temperature of 0.2231" in err
    assert reports[1]["test_accuracy"] == reports[0]["test_accuracy"]
    assert reports[1]["ridge"] == 0.005
    assert reports[1]["temperature"] == pytest.approx(np.exp(-1.5))
