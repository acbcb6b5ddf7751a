"""KIP's variants by the command line: resumed bitwise, frozen pixels untouched, spectra kept."""

import json

import numpy as np
import pytest

from kipper.launch.main import run

SOLVED = ["--solve_labels_every=3"]
LEARNED = ["--learn_labels", "--label_learning_rate=0.2", "--schedule=cosine", "--schedule_steps=8"]
NOISE = ["--support_init=noise", "--schedule=warmup_cosine", "--schedule_steps=30"]
FROZEN = ["--freeze_pixels=0.9", "--learn_labels"]


def _distill(workdir, *flags):
    data = ["--dataset=digits", "--target_batch_size=200", "--test_limit=100"]
    return run(["distill", f"--workdir={workdir}", *data, *flags])


def _images(workdir, step):
    with np.load(workdir / "checkpoints" / f"step-{step:06d}" / "state.npz") as arrays:
        return arrays["images"]


def _lines(path):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


@pytest.fixture(scope="module", params=[SOLVED, LEARNED, NOISE, FROZEN])
def runs(request, tmp_path_factory):
    """A run of 11 steps at once, and one that was given 5 steps first; with their flags."""
    folder, flags = tmp_path_factory.mktemp("runs"), request.param
    assert _distill(folder / "whole", *flags, "--steps=11", "--num_workers=1") == 0
    assert _distill(folder / "parts", *flags, "--steps=5") == 0
    assert _distill(folder / "parts", *flags, "--steps=11") == 0
    return folder / "whole", folder / "parts", flags


def test_a_resumed_run_ends_in_the_same_bits(runs):
    whole, parts, _ = runs
    assert (parts / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()
    for name in ("metrics.jsonl", "spectrum.jsonl"):
        assert _lines(parts / name) == _lines(whole / name)


def test_a_run_says_what_natural_images_give(runs):
    whole, _, flags = runs
    result = json.loads((whole / "result.json").read_text())
    first = _lines(whole / "metrics.jsonl")[0]
    assert result["initial_accuracy"] == first["test_accuracy"]
    assert result["natural_accuracy"] == 0.61
    assert (result["initial_accuracy"] == 0.61) == (flags == LEARNED)


def test_spectra_are_those_of_the_evaluated_steps(runs):
    whole, _, _ = runs
    spectra, metrics = _lines(whole / "spectrum.jsonl"), _lines(whole / "metrics.jsonl")
    assert [r["step"] for r in spectra] == [r["step"] for r in metrics] == [0, 1, 2, 4, 6, 8, 11]
    for spectrum, record in zip(spectra, metrics, strict=True):
        eigenvalues = spectrum["eigenvalues"]
        assert len(eigenvalues) == 10
        assert record["condition_number"] == pytest.approx(eigenvalues[0] / eigenvalues[-1])


def test_frozen_pixels_never_change(tmp_path):
    assert _distill(tmp_path, "--freeze_pixels=0.9", "--steps=6") == 0
    first, last = _images(tmp_path, 0), _images(tmp_path, 6)
    changed = (first != last).any(axis=-1)
    assert (changed.sum((1, 2)) == 64 - 58).all()
    with np.load(tmp_path / "distilled.npz") as distilled:
        assert distilled["images"][~changed].tobytes() == first[~changed].tobytes()


def test_labels_stay_between_solves(tmp_path):
    assert _distill(tmp_path, "--solve_labels_every=4", "--steps=6") == 0
    labels = {}
    for step in (0, 1, 2, 4, 6):
        with np.load(tmp_path / "checkpoints" / f"step-{step:06d}" / "state.npz") as arrays:
            labels[step] = arrays["labels"]
    assert np.array_equal(labels[0], labels[1])
    assert np.array_equal(labels[0], labels[2])
    assert not np.array_equal(labels[0], labels[4])
    assert np.array_equal(labels[4], labels[6])


def test_a_changed_schedule_is_refused_by_name(tmp_path, capsys):
    flags = ["--schedule=linear", "--steps=2"]
    assert _distill(tmp_path, *flags, "--schedule_steps=10") == 0
    assert _distill(tmp_path, *flags, "--schedule_steps=20") == 2
    assert "schedule_steps was 10 and is 20" in capsys.readouterr().err


def test_overwriting_leaves_no_spectrum_of_the_earlier_run(tmp_path):
    assert _distill(tmp_path, "--steps=4") == 0
    assert _distill(tmp_path, "--steps=1", "--overwrite") == 0
    assert [record["step"] for record in _lines(tmp_path / "spectrum.jsonl")] == [0, 1]
