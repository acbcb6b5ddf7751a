"""Words and numbers in figures: all on the page, and names that differ stay different."""

import numpy as np
import pytest
from pictures import cut_off, pixels_of, shows

from kipper.server.figures import style
from kipper.server.figures.curve import curve_figure
from kipper.server.figures.distilled import SupportSet, distilled_figure
from kipper.server.figures.kernels import kernels_figure
from kipper.server.figures.labels import labels_figure
from kipper.server.figures.spectrum import spectrum_figure
from kipper.server.figures.support_sizes import SizedScore, support_sizes_figure
from kipper.server.figures.timeline import Activity, timeline_figure
from kipper.server.measures import ACCURACY, R_SQUARED, Score
from kipper.server.records import Evaluation

RNG = np.random.default_rng(5)
LONG = (
    "Phalaenopsis amabilis (moth orchid)",
    "Phalaenopsis amabilis (a hybrid)",
    "Cypripedium calceolus, lady's slipper",
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
    "a",
)


def _support(per_class: int, scale: float) -> SupportSet:
    count = per_class * len(LONG)
    classes = np.repeat(np.arange(len(LONG)), per_class)
    images = RNG.random((count, 8, 8, 1))
    labels = scale * RNG.normal(size=(count, len(LONG)))
    return SupportSet(images, (0, 1), images, labels, classes, LONG, images, classes)


def _evaluation(step: int, loss: float, r2: float) -> Evaluation:
    return Evaluation.read(
        {
            "step": step,
            "loss": loss,
            "train_r2": r2,
            "test_r2": r2,
            "condition_number": 1e5 * loss,
            "regularised_condition_number": 1e4 * loss,
        }
    )


@pytest.mark.parametrize(("per_class", "scale"), [(1, 1.234e-9), (4, 3712.0), (1, 9.87e123)])
def test_long_names_and_labels_of_any_size_are_on_the_page(per_class, scale):
    support = _support(per_class, scale)
    assert cut_off(distilled_figure(support, "accuracy 50.0 %", "accuracy 9.0 %", 7)) == []
    before = np.eye(len(LONG))[support.classes] - 1 / len(LONG)
    drawn = labels_figure(support.initial, before, support.labels, support.classes, LONG, (0, 1))
    assert cut_off(drawn) == []


@pytest.mark.parametrize("last", [0.02, 1.0, 4.321e33])
def test_curves_of_any_size_are_on_the_page(last):
    found = [_evaluation(0, 0.03, 0.4), _evaluation(40, last, 1 - last)]
    assert cut_off(curve_figure(found, [], Score(R_SQUARED, 0.1))) == []
    assert cut_off(curve_figure(found[1:], [], Score(R_SQUARED, 0.1))) == []
    spectra = [{"step": 0, "eigenvalues": [3.0, 1.0]}, {"step": 1, "eigenvalues": [last, 1e-7]}]
    assert cut_off(spectrum_figure(spectra, found, 1e-6)) == []


def test_names_that_differ_at_their_end_stay_different():
    assert len({style.shortened(name) for name in LONG}) == len(LONG)
    assert all(
        style.width(style.shortened(name, most)) <= most for name in LONG for most in (50, 190)
    )
    assert style.shortened("a  name\nof two lines") == "a name of two lines"


def test_numbers_of_ticks_are_short_and_readable():
    shown = [style.number(v) for v in (0, 0.0187, 1.94, -3712, 1e-5, 3.7e12, -9.87e123)]
    assert shown == ["0", "0.019", "1.9", "−3,700", "10⁻⁵", "3.7·10¹²", "−9.9·10¹²³"]


def test_a_logarithmic_axis_says_so():
    long = curve_figure([_evaluation(0, 3.0, 0.1), _evaluation(40, 0.1, 0.2)], [], None)
    assert long.axes[1].get_xlabel() == "step, logarithmic"
    assert "Loss on each step's target images, logarithmic" in [t.get_text() for t in long.texts]
    short = curve_figure([_evaluation(0, 3.0, 0.1), _evaluation(4, 2.0, 0.2)], [], None)
    assert short.axes[1].get_xlabel() == "step"
    assert "Loss on each step's target images" in [t.get_text() for t in short.texts]


def test_natural_images_of_several_data_sets_can_be_told_apart():
    scores = [
        SizedScore(f"{data}, {kind}", data, 10, 50.0, 30.0)
        for data in ("digits", "mnist", "svhn")
        for kind in ("KIP", "LS")
    ]
    drawn = support_sizes_figure(scores, ACCURACY).axes[0].get_lines()
    lines = [line for line in drawn if not str(line.get_label()).startswith("_")]
    looks = {(line.get_color(), str(line.get_linestyle()), line.get_marker()) for line in lines}
    assert len(looks) == len(lines) == 9
    colours = {line.get_label(): line.get_color() for line in lines}
    assert colours["natural images, mnist"] == colours["mnist, KIP"]


def test_what_keeps_workers_busy_has_the_colours_of_the_legend():
    zeros = np.zeros(1, int)
    activity = Activity(("a",), 10.0, zeros, zeros, zeros + 1.0, zeros + 9.0, ((0, 0.0, 10.0),))
    page = pixels_of(timeline_figure(activity))
    assert shows(style.SKY, page) == 0  # that of rows sent ahead, of which there were none
    assert shows(style.BLUE, page[: 3 * style.LINE + 70]) > 1000


def test_a_bar_of_each_kernel_and_its_score_are_on_the_page():
    kernels = [
        {"architecture": name, "kernel": "ntk", "test_accuracy": share}
        for name, share in (("conv_gap8_leaky", 1.0), ("fc1", 0.0))
    ]
    made_with = {"architecture": "fc1", "kernel": "ntk"}
    report = {"support_size": 10, "test_size": 9, "dataset": "x", "kernels": kernels}
    assert cut_off(kernels_figure({**report, "made_with": made_with})) == []
