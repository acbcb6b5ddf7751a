"""Score against support size."""

import numpy as np
from pictures import pixels_of

from kipper.server.figures.support_sizes import SizedScore, support_sizes_figure
from kipper.server.measures import ACCURACY


def scores() -> list[SizedScore]:
    return [
        SizedScore("KIP", "", 10, 60.0, 30.0),
        SizedScore("KIP", "", 100, 80.0, 50.0),
        SizedScore("KIP", "", 100, 84.0, 54.0),
        SizedScore("LS", "", 100, 70.0, None),
    ]


def test_lines_go_through_the_means_of_equal_sizes() -> None:
    figure = support_sizes_figure(scores(), ACCURACY, "mnist, fc1")
    drawn = {
        line.get_label(): np.array(line.get_xydata()).tolist()
        for line in figure.axes[0].get_lines()
        if not str(line.get_label()).startswith("_")
    }
    assert drawn == {
        "natural images": [[10, 30], [100, 52]],
        "KIP": [[10, 60], [100, 82]],
        "LS": [[100, 70]],
    }
    pixels_of(figure)


def test_each_run_of_one_size_is_a_point_as_well() -> None:
    figure = support_sizes_figure(scores(), ACCURACY)
    points = [line for line in figure.axes[0].get_lines() if str(line.get_label()).startswith("_")]
    assert sorted(len(np.array(line.get_xydata())) for line in points) == [3, 3]


def test_many_lines_and_one_run_are_drawn() -> None:
    many = [
        SizedScore(f"line {n}", f"data {n % 3}", 2**k, n + k, 1.0)
        for n in range(12)
        for k in range(12)
    ]
    assert len(pixels_of(support_sizes_figure(many, ACCURACY))) < 900
    pixels_of(support_sizes_figure(many[:1], ACCURACY))
