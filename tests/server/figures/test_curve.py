"""Loss and score against step."""

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pictures import pixels_of, shows

from kipper.server.figures import style
from kipper.server.figures.curve import curve_figure
from kipper.server.measures import ACCURACY, R_SQUARED, Score
from kipper.server.records import Evaluation, Json, Validation

STEPS = [0, 1, 2, 4, 6, 8, 12, 18, 26, 37, 54, 78, 100]
RECORDS = [
    {"step": n, "loss": 0.04 / (n + 1), "train_accuracy": 0.5, "test_accuracy": 0.2 + n / 200}
    for n in STEPS
]


def drawn(
    records: Sequence[Json], validations: Sequence[Json] = (), natural: Score | None = None
) -> Figure:
    """The figure of records of metrics.jsonl and of validation.jsonl."""
    return curve_figure(
        [Evaluation.read(record) for record in records],
        [read for record in validations if (read := Validation.read(record))],
        natural,
    )


def lines(axes: Axes) -> list[list[list[float]]]:
    return [np.array(line.get_xydata()).tolist() for line in axes.get_lines()]


def test_each_record_is_a_point_and_the_natural_score_a_line() -> None:
    validation = [{"step": 4, "validation_accuracy": 0.3, "loss": 0.1}]
    losses, scores = drawn(RECORDS, validation, Score(ACCURACY, 0.25)).axes
    assert lines(losses) == [[[r["step"], r["loss"]] for r in RECORDS]]
    test, held_out, train, natural = lines(scores)
    assert np.allclose(test, [[r["step"], 100 * r["test_accuracy"]] for r in RECORDS])
    assert held_out == [[4, 30]]
    assert {y for _, y in train} == {50}
    assert {y for _, y in natural} == {25}
    words = {text.get_text() for text in scores.texts}
    assert words == {"test 70.0 %", "held out 30.0 %", "training batch 50.0 %", "natural 25.0 %"}


def test_many_steps_make_both_axes_logarithmic_where_that_helps() -> None:
    losses, scores = drawn(RECORDS).axes
    assert (losses.get_xscale(), losses.get_yscale()) == ("symlog", "log")
    assert scores.get_yscale() == "linear"
    few = [record | {"loss": 0.04} for record in RECORDS[:5]]
    losses, _ = drawn(few).axes
    assert (losses.get_xscale(), losses.get_yscale()) == ("linear", "linear")


def test_names_of_lines_do_not_overlap() -> None:
    same = [record | {"train_accuracy": record["test_accuracy"]} for record in RECORDS]
    figure = drawn(same, natural=Score(ACCURACY, 0.7))
    pixels_of(figure)
    boxes = sorted(text.get_window_extent().y0 for text in figure.axes[1].texts)
    assert len(boxes) == 3
    assert min(np.diff(boxes)) > 8


def test_one_record_becomes_bars() -> None:
    record = {"step": 0, "loss": 0.01, "train_accuracy": 0.9, "test_accuracy": 0.8}
    figure = drawn([record], natural=Score(ACCURACY, 0.6))
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([60.0, 80.0, 90.0])
    assert shows(style.BLUE, pixels_of(figure)) > 1000


def test_scores_of_regression_are_r_squared() -> None:
    records = [{"step": n, "loss": 1.0 / (n + 1), "test_r2": 0.1 * n} for n in range(4)]
    score = Score.read(records[-1], "test")
    assert score is not None
    measure = score.measure
    assert measure is R_SQUARED
    _, scores = drawn(records).axes
    assert np.allclose(lines(scores)[0], [[n, 0.1 * n] for n in range(4)])
    assert measure.text(0.25) == "R² 0.250"
    assert ACCURACY.text(94.72) == "accuracy 94.7 %"


def test_losses_alone_are_drawn() -> None:
    figure = drawn([{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.0}])
    assert lines(figure.axes[0]) == [[[0, 2.0], [1, 1.0]]]
    pixels_of(figure)
