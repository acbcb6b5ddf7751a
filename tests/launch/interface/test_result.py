"""What can be done with a result, in memory and read from files."""

import gc

import numpy as np
import pytest

import kipper
from kipper.server.distilled_set import load_distilled

SMALL = {"train_limit": 100, "test_limit": 50, "dashboard": "none", "verbose": False}


@pytest.fixture(scope="module")
def data():
    return kipper.load_data("digits")


@pytest.fixture(scope="module")
def result(data):
    return kipper.distill(data, steps=2, **SMALL)


def test_predictions_score_as_the_run_did(result, data):
    rows = slice(0, 200)
    images, labels = data.x_test[rows], data.y_test[rows]
    share = float(np.mean(result.predict(images) == labels))
    assert result.evaluate(images, labels).test_accuracy == share
    values = result.decision_values(images)
    assert values.shape == (200, 10)
    assert np.array_equal(values.argmax(axis=1), result.predict(images[..., 0]))


def test_evaluation_agrees_with_the_record(result):
    found = result.evaluate()
    assert found.agrees_with_record
    assert found.test_accuracy == result.test_accuracy
    assert result.evaluate(architecture="fc2").agrees_with_record is None
    with pytest.raises(kipper.UserError, match="num_workers is 0; it must be 1 or more"):
        result.evaluate(num_workers=0)


def test_predictions_of_a_regression_have_the_targets_mean():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(120, 4, 4)).astype(np.float32)
    targets = 100 + images.mean(axis=(1, 2))
    arrays = images[:80], targets[:80], images[80:], targets[80:]
    settings = {"dashboard": "none", "verbose": False, "learn_labels": True}
    result = kipper.distill(*arrays, steps=20, support_size=20, **settings)
    found = result.predict(images[80:])
    assert found.shape == (40, 1)
    r2 = 1 - np.var(targets[80:] - found[:, 0]) / np.var(targets[80:])
    assert result.test_accuracy is None
    assert abs(r2 - result.test_r2) < 0.1
    assert f"distilled {result.test_r2:.3f}" in repr(result)


def test_images_of_another_shape_are_refused(result):
    with pytest.raises(kipper.UserError, match=r"of shape \(7, 7, 1\); those of the distilled set"):
        result.predict(np.zeros((3, 7, 7), np.float32))
    with pytest.raises(kipper.UserError, match=r"it must be \(n, height, width\[, channels\]\)"):
        result.predict(np.zeros(3, np.float32))


def test_a_result_is_saved_and_loaded(result, tmp_path):
    folder, file = result.save(tmp_path / "run"), result.save(tmp_path / "set" / "ten.npz")
    for path in (folder, file, folder / "distilled.npz"):
        found = kipper.load(path)
        assert np.array_equal(found.images, result.images)
        assert found.test_accuracy == result.test_accuracy
        assert found.evaluate().agrees_with_record
    assert kipper.load(folder).natural_accuracy == result.natural_accuracy
    assert kipper.load(folder / "best.npz").step in (0, 1, 2)
    with pytest.raises(kipper.UserError, match="exists already"):
        result.save(folder)
    with pytest.raises(kipper.UserError, match="is not the folder of a run"):
        kipper.load(tmp_path)


def test_a_result_is_exported(result, tmp_path):
    path = result.export("torchvision", tmp_path / "a.npz")
    with np.load(path) as arrays:
        assert arrays["images"].shape == (10, 1, 8, 8)
    released = result.export("released", tmp_path / "released")
    assert np.array_equal(load_distilled(released)[0], result.images)
    with pytest.raises(kipper.UserError, match=r"^to is 'onnx'; it must be one of released"):
        result.export("onnx", tmp_path / "b")


def test_figures_of_a_result(result, tmp_path):
    assert result.plot().get_size_inches()[0] > 1
    result.plot("curve").savefig(tmp_path / "curve.png")
    assert kipper.load(result.save(tmp_path / "alone.npz")).plot().axes
    with pytest.raises(kipper.UserError, match="figure is 'loss'; of this set there are distilled"):
        result.plot("loss")
    assert result.report().read_text().startswith("<!DOCTYPE html>")


def test_natural_images_beside_a_result(result):
    found = result.natural([10, 20], seeds=1)
    assert [each.support_size for each in found.natural] == [10, 20]
    assert found.comparison.test.value == result.test_accuracy


@pytest.mark.parametrize(
    ("sizes", "seeds", "sentence"),
    [
        (10, 1, r"^sizes is 10; it must be numbers, such as \[10, 100, 1000\]"),
        ([15], 1, r"^sizes has 15; for 'digits' it must be a multiple of the 10 classes"),
        ([10], 0, r"^seeds is 0; it must be 1 or more"),
    ],
)
def test_numbers_of_natural_images_that_cannot_be_drawn(result, sizes, seeds, sentence):
    with pytest.raises(kipper.UserError, match=sentence):
        result.natural(sizes, seeds=seeds)


def test_what_a_result_says_itself_is_no_keyword(result):
    for setting in ({"json": True}, {"distilled": "another.npz"}):
        with pytest.raises(kipper.UserError, match="Unknown setting"):
            result.evaluate(**setting)
    with pytest.raises(kipper.UserError, match="Unknown setting"):
        result.transfer(distilled="another.npz")


@pytest.mark.thorough
def test_networks_trained_on_a_result(result):
    found = result.transfer(width=4, steps=2, seeds=1, curve_images=10)
    assert 0 <= found["test_accuracy"] <= 1
    assert (result.workdir / "transfer.json").exists()


def test_arrays_of_another_process_are_asked_for(result, tmp_path):
    """A set whose data were arrays can be evaluated with the arrays given again."""
    data = kipper.load_data("digits")
    arrays = data.x_train[:50], data.y_train[:50], data.x_test[:30], data.y_test[:30]
    settings = {"steps": 1, "dashboard": "none", "verbose": False}
    path = kipper.distill(*arrays, **settings).save(tmp_path / "ten.npz")
    loaded = kipper.load(path)
    gc.collect()
    with pytest.raises(kipper.UserError, match="was given as arrays in Python"):
        loaded.evaluate()
    assert loaded.evaluate(*arrays[2:]).test_accuracy == loaded.test_accuracy
    assert loaded.evaluate(*arrays).agrees_with_record
    assert loaded.natural([10], *arrays, seeds=1).comparison.test.value == loaded.test_accuracy
    small = {"width": 4, "steps": 2, "seeds": 1, "curve_images": 10, "output": tmp_path}
    assert loaded.transfer(*arrays, **small)["test_size"] == 30
