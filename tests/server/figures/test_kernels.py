"""Bars of many kernels."""

import pytest

from kipper.server.figures import style
from kipper.server.figures.kernels import kernels_figure

REPORT = {
    "dataset": "mnist",
    "support_size": 10,
    "test_size": 1000,
    "made_with": {"architecture": "fc1", "kernel": "ntk"},
    "kernels": [
        {"architecture": "fc1", "kernel": "ntk", "test_accuracy": 0.9},
        {"architecture": "fc1", "kernel": "nngp", "test_accuracy": 0.8},
        {"architecture": "convnet", "kernel": "ntk", "left_out": "too slow"},
        {"architecture": "convnet", "kernel": "nngp", "test_accuracy": 0.2},
    ],
}


def test_each_kernel_has_a_bar_and_those_left_out_say_so():
    (axes,) = kernels_figure(REPORT).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([90, 0, 80, 20])
    words = [text.get_text() for text in axes.texts]
    assert words == ["90.0 %", "distilled with it", "left out", "80.0 %", "20.0 %"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["fc1", "convnet"]


@pytest.mark.parametrize(("accuracy", "colour"), [(0.9, "white"), (0.2, style.INK)])
def test_the_mark_of_the_sets_own_kernel_can_be_read(accuracy, colour):
    own = {"architecture": "fc1", "kernel": "ntk", "test_accuracy": accuracy}
    (axes,) = kernels_figure({**REPORT, "kernels": [own]}).axes
    _, mark = axes.texts
    assert mark.get_color() == colour
    assert (mark.get_position()[0] < 100 * accuracy) == (colour == "white")
