"""Eigenvalues and condition numbers that a run records."""

import json
import pathlib

import numpy as np
import pytest

from kipper.server import krr
from kipper.server.spectrum import record_spectrum
from kipper.server.workdir import Workdir


def test_eigenvalues_and_condition_numbers_are_those_of_numpy(tmp_path: pathlib.Path) -> None:
    features = np.random.default_rng(0).normal(size=(6, 9))
    k_ss, workdir = features @ features.T, Workdir(tmp_path)
    fields = record_spectrum(workdir, 4, k_ss, ridge=0.1)
    assert fields["condition_number"] == pytest.approx(np.linalg.cond(k_ss), rel=1e-9)
    regularised = np.linalg.cond(krr.add_ridge(k_ss, 0.1))
    assert fields["regularised_condition_number"] == pytest.approx(regularised, rel=1e-9)
    (record,) = workdir.read_records(workdir.spectrum)
    assert record["step"] == 4
    assert record["eigenvalues"] == sorted(record["eigenvalues"], reverse=True)
    singular_values = np.linalg.svd(k_ss, compute_uv=False)
    np.testing.assert_allclose(record["eigenvalues"], singular_values, rtol=1e-9)


def test_a_singular_matrix_has_no_condition_number(tmp_path: pathlib.Path) -> None:
    fields = record_spectrum(Workdir(tmp_path), 0, np.diag([2.0, 0.0]), ridge=0.5)
    assert fields == {"condition_number": None, "regularised_condition_number": 5.0}
    json.loads(json.dumps(fields, allow_nan=False))
