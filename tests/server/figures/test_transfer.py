"""Curves of finite networks."""

import numpy as np
import pytest
from pictures import pixels_of, shows

from kipper.server.figures import style
from kipper.server.figures.transfer import transfer_figure

REPORT = {
    "architecture": "convnet",
    "width": 64,
    "loss": "mse",
    "dataset": "mnist",
    "support_size": 10,
    "seeds": 2,
    "steps": 300,
    "test_accuracy": 0.71,
    "test_accuracy_spread": 0.05,
    "test_size": 10000,
    "curve_test_size": 500,
    "curve_validation_size": 400,
    "kernel_regression": {"test_accuracy": 0.87, "architecture": "convnet", "kernel": "ntk"},
}


def record(seed, step, test, validation):
    return {"seed": seed, "step": step, "test_accuracy": test, "validation_accuracy": validation}


CURVE = [
    record(0, 0, 0.1, 0.2),
    record(0, 300, 0.7, 0.8),
    record(1, 0, 0.2, 0.3),
    record(1, 300, 0.8, 0.7),
]


def test_lines_are_means_over_networks_and_the_regression_is_one():
    (axes,) = transfer_figure(REPORT, CURVE).axes
    lines = {line.get_label(): np.array(line.get_xydata()) for line in axes.get_lines()}
    np.testing.assert_allclose(lines["500 test images"], [[0, 15], [300, 75]])
    np.testing.assert_allclose(lines["400 validation images"], [[0, 25], [300, 75]])
    regression = lines["kernel regression (convnet, NTK) on the same set: 87.0 %"]
    assert regression[:, 1] == pytest.approx([87.0, 87.0])
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words[-1] == "all 10,000 test images: 71.0 ± 5.0 %"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "10", "100", "300"]


def test_bands_reach_from_the_worst_network_to_the_best():
    (axes,) = transfer_figure(REPORT, CURVE).axes
    heights = [area.get_paths()[0].get_extents() for area in axes.collections[:2]]
    assert [(area.y0, area.y1) for area in heights] == [(20, 80), (10, 80)]


def test_one_network_without_validation_images_has_neither_band_nor_spread():
    alone = {**REPORT, "seeds": 1, "test_accuracy_spread": None, "curve_validation_size": 0}
    figure = transfer_figure(alone, [{**r, "validation_accuracy": None} for r in CURVE[:2]])
    words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert words[1:] == ["500 test images", "all 10,000 test images: 71.0 %"]
    assert shows(style.VERMILION, pixels_of(figure)) > 20
