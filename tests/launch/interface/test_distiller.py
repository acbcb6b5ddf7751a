"""`kipper.Distiller` is an estimator for scikit-learn; exact kernels serve other estimators."""

import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import kipper
from kipper.workers.native_library import unavailable

# Checks of scikit-learn that fail without native kernels, with the reason.
EXPECTED_TO_FAIL = {
    "check_methods_subset_invariance": "XLA's float32 kernels of other block shapes differ by 1e-6"
}
# Those that take no fit, or one.
QUICK = (
    "check_estimator_cloneable",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimators_unfitted",
    "check_n_features_in",
)


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return found.images[:200] / 16, found.target[:200]


def _quick_checks():
    for estimator, check in estimator_checks_generator(kipper.Distiller(steps=1)):
        if check.func.__name__ in QUICK:
            yield pytest.param(estimator, check, id=check.func.__name__)


@pytest.mark.parametrize(("estimator", "check"), list(_quick_checks()))
def test_quick_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_checks_of_scikit_learn(dtype):
    expected = EXPECTED_TO_FAIL if dtype == "float32" and unavailable() else {}
    estimator = kipper.Distiller(steps=10, kernel_dtype=dtype)
    found = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    failed = {each["check_name"]: each["exception"] for each in found if each["status"] == "failed"}
    assert failed == {}


def test_it_learns_and_predicts_classes_of_any_kind(digits):
    images, classes = digits
    names = np.array([f"digit {c}" for c in classes])
    distiller = kipper.Distiller(steps=20, learn_labels=True).fit(images[:150], names[:150])
    assert distiller.result_.images.shape == (10, 8, 8, 1)
    assert distiller.score(images[150:], names[150:]) > 0.7
    values = distiller.decision_function(images[150:])
    assert values.shape == (50, 10)
    assert np.array_equal(
        distiller.classes_[values.argmax(axis=1)], distiller.predict(images[150:])
    )
    again = pickle.loads(pickle.dumps(distiller))
    assert np.array_equal(again.decision_function(images[150:]), values)


@pytest.mark.thorough
def test_grid_search_over_a_pipeline():
    rows, classes = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), kipper.Distiller(steps=1))
    search = GridSearchCV(pipeline, {"distiller__support_size": [3, 6]}, cv=2, error_score="raise")
    search.fit(rows, classes)
    assert search.best_score_ > 0.7
    assert search.best_estimator_[-1].result_.images.shape[1:] == (1, 4, 1)


def test_rows_of_an_image_are_given_its_shape(digits):
    images, classes = digits
    rows = images.reshape(len(images), -1)
    distiller = kipper.Distiller(image_shape=(8, 8), steps=1)
    distiller.fit(rows, classes)
    as_images = clone(distiller).fit(images, classes)
    assert np.array_equal(distiller.predict(rows), as_images.predict(images))
    with pytest.raises(kipper.UserError, match="a row has 64 numbers"):
        clone(distiller).set_params(image_shape=(7, 7)).fit(rows, classes)


def test_pictures_are_images(digits):
    images = (digits[0][:60] * 240).astype(np.uint8)
    pictures = [Image.fromarray(image) for image in images]
    distiller = kipper.Distiller(steps=1).fit(pictures, digits[1][:60])
    assert np.array_equal(distiller.predict(pictures), distiller.predict(images))


def test_wrong_parameters_are_refused(digits):
    with pytest.raises(TypeError, match="no parameter 'stepps'"):
        kipper.Distiller(stepps=3)
    with pytest.raises(kipper.UserError, match="steps is 'ten'"):
        kipper.Distiller(steps="ten").fit(*digits)


def test_the_kernels_serve_estimators_of_scikit_learn(digits):
    images, classes = digits
    train, test = images[:150], images[150:]
    k_ss = kipper.kernel(train, architecture="fc1", dtype="float64")
    k_ts = kipper.kernel(test, train, architecture="fc1", dtype="float64")
    machine = SVC(kernel="precomputed").fit(k_ss, classes[:150])
    assert machine.score(k_ts, classes[150:]) > 0.85
    ridge = KernelRidge(kernel="precomputed", alpha=1e-3).fit(k_ss, np.eye(10)[classes[:150]])
    assert (ridge.predict(k_ts).argmax(axis=1) == classes[150:]).mean() > 0.85
