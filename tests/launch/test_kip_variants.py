"""KIP's variants by the command line: resumed bitwise, frozen pixels untouched, spectra kept."""

import json

import numpy as np
import pytest

from kipper.common.sealed import parse_object
from kipper.launch.main import run
from kipper.server import sampling

pytestmark = pytest.mark.thorough

SOLVED = ["--solve_labels_every=3", "--support_init=noise"]
SOLVED += ["--schedule=warmup_cosine", "--schedule_steps=30"]
LEARNED = ["--learn_labels", "--label_learning_rate=0.2", "--freeze_pixels=0.9"]
LEARNED += ["--schedule=cosine", "--schedule_steps=8"]


def _distill(workdir, *flags):
    data = ["--dataset=digits", "--target_batch_size=200", "--test_limit=100"]
    return run(["distill", f"--workdir={workdir}", *data, *flags])


def _state(workdir, step):
    with np.load(workdir / "checkpoints" / f"step-{step:06d}" / "state.npz") as arrays:
        return arrays["images"], arrays["labels"]


def _lines(path):
    records = [parse_object(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def _in_parts(folder, flags):
    """A run of 11 steps, and one of 5 steps that is resumed to 11."""
    assert _distill(folder / "whole", *flags, "--steps=11", "--num_workers=1") == 0
    assert _distill(folder / "parts", *flags, "--steps=5") == 0
    assert _distill(folder / "parts", *flags, "--steps=11") == 0
    return folder / "whole", folder / "parts"


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    return _in_parts(tmp_path_factory.mktemp("solved"), SOLVED)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    return _in_parts(tmp_path_factory.mktemp("learned"), LEARNED)


@pytest.fixture(params=[pytest.param("solved", marks=pytest.mark.thorough), "learned"])
def runs(request):
    return request.getfixturevalue(request.param)


def test_a_resumed_run_has_the_same_bits(runs):
    whole, parts = runs
    assert (parts / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()
    for name in ("metrics.jsonl", "spectrum.jsonl"):
        assert _lines(parts / name) == _lines(whole / name)


def test_a_run_records_the_score_of_natural_images_with_natural_labels(runs):
    whole, _ = runs
    result = json.loads((whole / "result.json").read_text())
    assert result["initial_accuracy"] == _lines(whole / "metrics.jsonl")[0]["test_accuracy"]
    assert result["natural_accuracy"] == 0.61
    assert result["initial_accuracy"] != 0.61


def test_spectra_are_those_of_the_evaluated_steps(runs):
    whole, _ = runs
    spectra, metrics = _lines(whole / "spectrum.jsonl"), _lines(whole / "metrics.jsonl")
    assert [r["step"] for r in spectra] == [r["step"] for r in metrics] == [0, 1, 2, 4, 6, 8, 11]
    for spectrum, record in zip(spectra, metrics, strict=True):
        eigenvalues = spectrum["eigenvalues"]
        assert len(eigenvalues) == 10
        assert record["condition_number"] == pytest.approx(eigenvalues[0] / eigenvalues[-1])


def test_frozen_pixels_never_change(learned):
    whole, _ = learned
    first, last = _state(whole, 0)[0], _state(whole, 11)[0]
    changed = (first != last).any(axis=-1)
    assert (changed.sum((1, 2)) == 64 - 58).all()
    with np.load(whole / "distilled.npz") as distilled:
        assert distilled["images"][~changed].tobytes() == first[~changed].tobytes()


def test_labels_stay_between_solves(solved):
    whole, _ = solved
    labels = {step: _state(whole, step)[1] for step in (0, 1, 2, 4, 6, 8, 11)}
    for solved_at, later in ((0, 1), (0, 2), (6, 8)):
        np.testing.assert_array_equal(labels[solved_at], labels[later])
    for earlier, solved_between in ((2, 4), (4, 6), (8, 11)):
        assert (labels[earlier] != labels[solved_between]).all()


def test_a_changed_schedule_is_refused_by_name(learned, capsys):
    whole, _ = learned
    assert _distill(whole, *LEARNED, "--schedule_steps=20", "--steps=11") == 2
    assert "schedule_steps was 8 and is 20" in capsys.readouterr().err


def test_the_spectrum_is_that_of_the_kernel_that_scores(tmp_path):
    seed = next(s for s in range(20) if sampling.architecture(2, s, step=0) == 1)
    for name, others in (("one", []), ("two", ["--sample_architectures=fc2"])):
        assert _distill(tmp_path / name, "--steps=0", f"--seed={seed}", *others) == 0
    one, two = tmp_path / "one" / "spectrum.jsonl", tmp_path / "two" / "spectrum.jsonl"
    assert one.read_text() == two.read_text()
