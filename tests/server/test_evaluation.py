"""Scores against scikit-learn's, for predictions whole and in chunks."""

import json

import numpy as np
import pytest
from sklearn import metrics

from kipper.common.strict_json import json_text
from kipper.server.evaluation import score_of, streamed_scores
from kipper.server.measures import R_SQUARED, Score

RNG = np.random.default_rng(0)


def test_r2_and_mse_of_targets_are_those_of_scikit_learn():
    expected = RNG.normal(size=(50, 3)) * [1, 100, 0.01]
    predictions = expected + RNG.normal(size=(50, 3)) * [0.1, 50, 0.02]
    score = score_of(predictions, expected)
    mse = metrics.mean_squared_error(expected, predictions)
    assert score.record("test") == pytest.approx(
        {"test_r2": metrics.r2_score(expected, predictions), "test_mse": mse}
    )
    assert score.loss == pytest.approx(mse / 2)


@pytest.mark.filterwarnings("ignore:R\\^2 score is not well-defined")
@pytest.mark.parametrize("error", [0.0, 1.0])
def test_r2_of_constant_targets(error):
    expected = np.stack([np.ones(5), np.arange(5.0)], axis=1)
    predictions = expected + np.array([error, 0])
    assert score_of(predictions, expected).value == metrics.r2_score(expected, predictions)


def test_accuracy_and_loss_of_classes():
    predictions = RNG.normal(size=(40, 4))
    classes = RNG.integers(0, 4, 40)
    score = score_of(predictions, classes)
    assert score.record("test") == {
        "test_accuracy": metrics.accuracy_score(classes, predictions.argmax(axis=1))
    }
    one_hot = np.eye(4)[classes] - 0.25
    assert 2 * score.loss == pytest.approx(metrics.mean_squared_error(one_hot, predictions))


@pytest.mark.parametrize("expected", [RNG.integers(0, 3, 20), RNG.normal(size=(20, 3))])
def test_chunks_give_the_score_of_the_whole(expected):
    k_ts, weights = RNG.normal(size=(20, 5)), [RNG.normal(size=(5, 3)) for _ in range(2)]
    spans = [slice(0, 7), slice(7, 8), slice(8, 20)]
    scores = streamed_scores(((span, k_ts[span]) for span in spans), weights, expected)
    for score, coefficients in zip(scores, weights, strict=True):
        whole = score_of(k_ts @ coefficients, expected)
        assert score.measure is whole.measure
        assert (score.value, score.loss) == pytest.approx((whole.value, whole.loss))


def test_accuracy_is_the_share_of_largest_predictions_at_the_label() -> None:
    predictions = np.array([[0.1, 0.9], [0.8, 0.2], [-1.0, -2.0], [3.0, 4.0]])
    assert score_of(predictions, np.array([1, 1, 0, 1])).value == 0.75


def test_r2_of_a_single_image_is_not_a_number_as_in_scikit_learn():
    expected, predictions = np.ones((1, 2)), np.zeros((1, 2))
    with pytest.warns(UserWarning, match="not well-defined"):
        assert np.isnan(metrics.r2_score(expected, predictions))
    score = score_of(predictions, expected)
    assert np.isnan(score.value)
    assert score.loss == 0.5
    assert score.rank == -0.5


def test_a_score_that_is_not_a_number_is_null_in_records():
    score = score_of(np.zeros((1, 1)), np.ones((1, 1)))
    record = json.loads(json_text(score.record("test")))
    assert record == {"test_r2": None, "test_mse": 1.0}
    read = Score.read(record, "test")
    assert np.isnan(read.value)
    assert read.measure is R_SQUARED
    assert read.loss == 0.5
