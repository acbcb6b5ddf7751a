"""The spectrum of K_ss and its condition."""

import numpy as np
from pictures import pixels_of

from kipper.server.figures.spectrum import spectrum_figure
from kipper.server.records import Evaluation

SPECTRA = [{"step": step, "eigenvalues": [100.0 / step, 1.0, 0.01, -1e-7]} for step in (1, 10, 100)]


def evaluations(records):
    return [Evaluation.read(record) for record in records]


def test_first_and_last_are_drawn_with_the_ridge() -> None:
    figure = spectrum_figure(SPECTRA, [], ridge=1e-3)
    (axes,) = figure.axes
    drawn = {line.get_label(): np.asarray(line.get_ydata(), float) for line in axes.get_lines()}
    assert list(drawn) == [
        "step 1",
        "step 1: below zero",
        "step 100",
        "step 100: below zero",
        "ridge",
    ]
    assert np.allclose(drawn["step 100"][:3], [1.0, 1.0, 0.01])
    assert np.isnan(drawn["step 100"][3])
    assert drawn["step 100: below zero"].tolist() == [1e-7]
    assert np.allclose(drawn["ridge"], 1e-3 * np.mean(SPECTRA[-1]["eigenvalues"]))
    assert axes.get_yscale() == "log"
    pixels_of(figure)


def test_condition_numbers_are_drawn_where_there_are_any() -> None:
    records = [
        {"step": n, "condition_number": 10.0**n, "regularised_condition_number": 5.0 + n}
        for n in range(3)
    ]
    records.append({"step": 3, "condition_number": None, "regularised_condition_number": 8.0})
    _, axes = spectrum_figure(SPECTRA, evaluations(records), 0.0).axes
    plain, regularised = axes.get_lines()
    assert np.array(plain.get_xydata()).tolist() == [[0, 1], [1, 10], [2, 100]]
    assert len(np.array(regularised.get_xydata())) == 3


def test_curves_that_the_ridge_does_not_change_are_drawn_once() -> None:
    records = [
        {"step": n, "condition_number": 9.0, "regularised_condition_number": 9.001}
        for n in range(3)
    ]
    figure = spectrum_figure(SPECTRA[:1], evaluations(records), 1e-6)
    assert len(figure.axes[1].get_lines()) == 1
    pixels_of(figure)


def test_a_kernel_of_zeros_is_drawn() -> None:
    pixels_of(spectrum_figure([{"step": 0, "eigenvalues": [0.0, 0.0]}], [], 1e-6))
