"""Runs on targets of a regression, against scikit-learn's kernel ridge regression."""

import json

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import mean_squared_error, r2_score

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.launch.main import run
from kipper.server.distilled_set import load_distilled, load_recipe
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages

pytestmark = pytest.mark.thorough

RNG = np.random.default_rng(0)
RIDGE = 1e-3
FLAGS = ("--support_size=7", "--kernel_dtype=float64", f"--ridge={RIDGE}", "--num_workers=1")


def _arrays():
    """Images, and how bright and how lopsided they are, far from zero."""
    x_train, x_test = (RNG.random((n, 5, 5, 1)).astype(np.float32) for n in (90, 30))
    y_train, y_test = (
        np.stack([x.mean((1, 2, 3)) + 50, (x[:, :, :2].sum((1, 2, 3)) - 9) ** 2], axis=1)
        for x in (x_train, x_test)
    )
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("regression") / "own.npz"
    arrays = _arrays()
    np.savez(path, **arrays)
    return path, arrays


def _run(command, workdir, path, *flags):
    assert run([command, f"--workdir={workdir}", f"--dataset=npz:{path}", *FLAGS, *flags]) == 0
    result = json.loads((workdir / "result.json").read_text())
    return result, *load_distilled(workdir / "distilled.npz")[:2]


def _predicted(workdir, images, labels, raw):
    """The score of scikit-learn, in the targets' own units."""
    recipe = load_recipe(workdir / "preprocessing.npz")
    engine = make_engine("auto", KernelSpec(architecture_named("fc1"), "ntk", "float64"), 1)

    def kernel(x1, x2):
        both = (PreparedImages(x.astype(float), engine.features(x.astype(float))) for x in (x1, x2))
        return engine.block(*both)

    k_ss = kernel(images, images)
    regression = KernelRidge(alpha=RIDGE * np.trace(k_ss) / len(k_ss), kernel="precomputed")
    regression.fit(k_ss, labels)
    return regression.predict(kernel(recipe.preprocessing.apply(raw), images)) + recipe.target_mean


def test_kip_predicts_targets_as_its_files_do(tmp_path, data, capsys):
    path, arrays = data
    result, images, labels = _run("distill", tmp_path, path, "--steps=4", "--learn_labels")
    predictions = _predicted(tmp_path, images, labels, arrays["x_test"])
    assert result["test_r2"] == pytest.approx(r2_score(arrays["y_test"], predictions))
    assert result["test_mse"] == pytest.approx(mean_squared_error(arrays["y_test"], predictions))
    assert result["test_r2"] > result["natural_r2"] == result["initial_r2"]
    assert not any("accuracy" in name for name in result)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["test_r2"] == result["test_r2"]
    kept = (tmp_path / "validation.jsonl").read_text()
    assert "validation_r2" in kept
    assert "accuracy" not in kept
    shown = capsys.readouterr().out
    assert f"test R² {result['test_r2']:.3f}" in shown
    assert f"test R² {result['natural_r2']:.3f} (natural images" in shown

    capsys.readouterr()
    assert run(["evaluate", f"--distilled={tmp_path / 'distilled.npz'}"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["test_r2"] == report["recorded_test_r2"] == result["test_r2"]
    assert report["agrees_with_record"]


def test_a_resumed_run_has_the_same_bits(tmp_path, data):
    path, _ = data
    _, images, labels = _run("distill", tmp_path / "one", path, "--steps=4", "--learn_labels")
    _run("distill", tmp_path / "two", path, "--steps=2", "--learn_labels")
    _, *again = _run("distill", tmp_path / "two", path, "--steps=4", "--learn_labels")
    assert np.array_equal(again[0], images)
    assert np.array_equal(again[1], labels)


def test_solved_labels_minimise_the_loss(tmp_path, data):
    path, arrays = data
    result, images, labels = _run("solve_labels", tmp_path, path)
    loss = mean_squared_error(
        arrays["y_train"], _predicted(tmp_path, images, labels, arrays["x_train"])
    )
    assert result["loss"] == pytest.approx(loss / 2)
    for _ in range(3):
        other = labels + 1e-3 * RNG.normal(size=labels.shape)
        predictions = _predicted(tmp_path, images, other, arrays["x_train"])
        assert mean_squared_error(arrays["y_train"], predictions) > loss
    assert result["test_r2"] > result["natural_r2"]


def test_natural_images_as_a_baseline(data, capsys, tmp_path):
    path, _ = data
    figure = tmp_path / "natural.png"
    flags = [f"--dataset=npz:{path}", "--architecture=fc1", f"--figure={figure}", "--seeds=2"]
    assert run(["evaluate", "--natural=7,40", *flags]) == 0
    few, many = json.loads(capsys.readouterr().out)["natural"]
    assert few["test_r2"] == np.mean(few["test_r2s"]) < many["test_r2"]
    assert figure.exists()
    assert run(["evaluate", "--natural=91", *flags]) == 2
    assert "must be at most 90" in capsys.readouterr().err


def test_sets_of_classes_and_of_targets_are_distinguished(tmp_path, data, capsys):
    path, arrays = data
    _run("distill", tmp_path, path, "--steps=1")
    classes = {f"y_{part}": np.arange(len(arrays[f"y_{part}"])) % 2 for part in ("train", "test")}
    np.savez(tmp_path / "classes.npz", **(arrays | classes))
    capsys.readouterr()
    flags = [f"--distilled={tmp_path / 'distilled.npz'}", f"--dataset=npz:{tmp_path}/classes.npz"]
    assert run(["evaluate", *flags]) == 2
    assert "was not made from classes" in capsys.readouterr().err
    too_many = ["--support_size=82", f"--workdir={tmp_path / 'more'}", f"--dataset=npz:{path}"]
    assert run(["distill", *too_many]) == 2
    assert "--support_size is 82, but there are 81 training images." in capsys.readouterr().err
