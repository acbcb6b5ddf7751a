"""Facts of a run as JSON: exactly the fields of its files, readable from any version."""

import json
from typing import Any

import pytest

from kipper.common.errors import UserError
from kipper.common.settings import DistillSettings, SolveLabelsSettings
from kipper.server.algorithms import algorithm_of, guessed_algorithm, recorded_algorithm
from kipper.server.algorithms.kip import Kip
from kipper.server.algorithms.label_solve import LabelSolve
from kipper.server.measures import ACCURACY, R_SQUARED, Score
from kipper.server.records import Account, Evaluation, RunResult, Validation
from kipper.server.status import Status

ACCOUNT = {
    "seconds": 2.5,
    "kernel_pairs": 1000,
    "vjp_pairs": 0,
    "pairs_per_second": 400,
    "engine": "fake",
    "bytes_sent": 10,
    "bytes_received": 20,
    "phase_seconds": {},
    "idle_share": {},
}
KIP_RESULT = {
    "test_accuracy": 0.75,
    "natural_accuracy": 0.5,
    "initial_accuracy": 0.25,
    "train_accuracy": 1.0,
    "loss": 0.125,
    "steps": 5,
    **ACCOUNT,
}
LABEL_RESULT = {
    "test_r2": 0.75,
    "test_mse": 0.5,
    "test_loss": 0.25,
    "natural_r2": 0.5,
    "natural_mse": 1.5,
    "train_r2": 1.0,
    "train_mse": 0.0,
    "loss": 0.125,
    "steps": 0,
    **ACCOUNT,
}


@pytest.mark.parametrize("record", [KIP_RESULT, LABEL_RESULT])
def test_results_are_written_as_they_are_read(record: dict[str, Any]) -> None:
    result = RunResult.read(record)
    assert json.dumps(result.record()) == json.dumps(record)
    assert result.account == Account(**ACCOUNT)


def test_evaluations_name_matrices_that_are_singular() -> None:
    record = {"step": 3, "loss": 0.5, "train_accuracy": 1.0, "test_accuracy": 0.5, "seconds": 1.5}
    record |= {"condition_number": None, "regularised_condition_number": 100.0}
    assert json.dumps(Evaluation.read(record).record()) == json.dumps(record)


def test_validations_have_the_measure_of_the_data() -> None:
    for score, fields in (
        (Score(ACCURACY, 0.5, loss=0.1), {"validation_accuracy": 0.5}),
        (Score(R_SQUARED, -3.0, loss=0.5), {"validation_r2": -3.0, "validation_mse": 1.0}),
    ):
        record = {"step": 2, "loss": 1.0, **fields}
        assert Validation(2, 1.0, score).record() == record
        assert Validation.read(record).validation == score


def test_a_status_says_null_only_of_what_a_running_coordinator_lacks() -> None:
    starting = Status("starting", "host", 7)
    assert starting.record() == {"state": "starting", "host": "host", "pid": 7}
    assert Status(state="running", steps=0).record() == {
        "state": "running",
        "steps": 0,
        "dashboard": None,
    }
    rows = Status(state="running", rows=0, rows_total=9, rows_of="targets").record()
    assert rows["seconds_left"] is None
    assert Status.read(rows) == Status(state="running", rows=0, rows_total=9, rows_of="targets")


def test_a_status_contains_its_account_and_score() -> None:
    record = {"state": "running", "steps": 5, "dashboard": "http://x", **ACCOUNT}
    record |= {"step": 3, "seconds_left": 1.0, "evaluated_step": 2, "test_accuracy": 0.5}
    status = Status.read(record)
    assert (status.account.engine, status.test) == ("fake", Score(ACCURACY, 0.5))
    assert status.record() == record


@pytest.mark.parametrize("cls", [RunResult, Evaluation, Status])
def test_files_of_other_versions_are_read(cls: type[RunResult | Evaluation | Status]) -> None:
    found = cls.read({"step": 4, "test_accuracy": 0.5, "from_the_future": [1, 2]})
    assert found.test == Score(ACCURACY, 0.5)
    assert "from_the_future" not in found.record()


def test_an_algorithm_is_found_by_its_settings_however_they_are_kept() -> None:
    kip, labels = (
        DistillSettings(dataset="digits", steps=7, learn_labels=True),
        SolveLabelsSettings(dataset="digits", seed=3),
    )
    for settings, cls in ((kip, Kip), (labels, LabelSolve)):
        algorithm = algorithm_of(settings)
        assert type(algorithm) is cls
        assert recorded_algorithm(type(settings).__name__, vars(settings)) == algorithm
        assert guessed_algorithm(vars(settings)) == algorithm
    old = {"dataset": "digits", "ridge": 0.5, "of_an_early_version": True}
    assert recorded_algorithm("DistillSettings", old).settings.ridge == 0.5
    with pytest.raises(UserError, match="no algorithm with 'Alchemy'"):
        recorded_algorithm("Alchemy", {})


def test_the_first_evaluation_of_kip_is_that_of_natural_images_if_it_starts_from_them() -> None:
    first = Evaluation(step=0, test=Score(ACCURACY, 0.25))
    result = RunResult(natural=Score(ACCURACY, 0.5))
    for settings, known in (
        (DistillSettings(dataset="digits"), first.test),
        (DistillSettings(dataset="digits", learn_labels=True), first.test),
        (DistillSettings(dataset="digits", support_init="noise"), None),
        (DistillSettings(dataset="digits", freeze_pixels=0.5), None),
        (DistillSettings(dataset="digits", initial="x.npz"), None),
        (DistillSettings(dataset="digits", solve_labels_every=2), None),
        (SolveLabelsSettings(dataset="digits"), None),
    ):
        algorithm = algorithm_of(settings)
        assert algorithm.natural_score(None, first) == known
        assert algorithm.natural_score(result, first) == result.natural
        assert algorithm.natural_score(None, None) is None


def test_progress_is_in_the_unit_of_the_algorithm() -> None:
    kip, labels = (
        algorithm_of(DistillSettings(dataset="digits", steps=2000)),
        algorithm_of(SolveLabelsSettings(dataset="digits")),
    )
    assert kip.progress(Status(step=1234), 5) == "step 1,234 of 2,000"
    assert kip.progress(Status(), 5) == "step 5 of 2,000"
    rows = Status(state="running", rows=1200, rows_total=5000, rows_of="targets")
    assert labels.progress(rows, 0) == "1,200 of 5,000 targets"
    assert labels.progress(Status(state="finished", rows=5000, rows_total=5000), 0) == ""
    assert labels.progress(Status(), 0) == ""


def test_titles_say_whether_labels_are_learned() -> None:
    for settings, title in (
        (DistillSettings(dataset="digits"), "KIP"),
        (DistillSettings(dataset="digits", learn_labels=True), "KIP, labels learned"),
        (DistillSettings(dataset="digits", solve_labels_every=3), "KIP, labels learned"),
        (SolveLabelsSettings(dataset="digits"), "LS"),
    ):
        assert algorithm_of(settings).title == title
