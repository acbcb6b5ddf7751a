"""Runs whose targets are augmented and whose steps are made with several architectures."""

import dataclasses
import pathlib

import numpy as np
import pytest

from kipper.common.architecture import architecture_named
from kipper.common.augmentation import augment, parse_augmentation
from kipper.common.datasets import load_dataset
from kipper.common.errors import UserError
from kipper.common.labels import centred_one_hot
from kipper.common.sealed import parse_object
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.coordinator import load_experiment, run_inprocess
from kipper.server import krr, sampling
from kipper.workers import dense_engine
from kipper.workers.engine import PreparedImages

pytestmark = pytest.mark.thorough

AUGMENT = "flip,shift:0.2,rotate:20,color:0.3"
ARCHITECTURES = ("fc1", "fc2", "fc3")
SETTINGS = RunSettings.of(
    DistillSettings,
    workdir="",
    dataset="digits",
    preprocess="zca",
    augment=AUGMENT,
    sample_architectures="fc2, fc3",
    kernel_dtype="float64",
    target_batch_size=100,
    block_target=40,
    test_limit=50,
    steps=3,
    eval_every=1,
    seed=4,
)


def run(workdir: pathlib.Path, **changes: object) -> list[dict]:
    """Carries out SETTINGS but for what is changed; returns the records of metrics.jsonl."""
    run_inprocess(SETTINGS.replace(workdir=str(workdir), **changes))
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in parse_object(line).items() if k != "seconds"} for line in lines]


def kernel(architecture: str, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    spec = dataclasses.replace(
        SETTINGS.compute.kernel_spec, architecture=architecture_named(architecture)
    )
    engine = dense_engine.make_engine(spec, threads=1)
    prepared = [PreparedImages(x, engine.features(x)) for x in (x1, x2)]
    return engine.block(*prepared)


def test_a_step_is_made_with_the_architecture_drawn_and_augmented_targets(
    tmp_path: pathlib.Path,
) -> None:
    (before, *_) = run(tmp_path, steps=0)
    experiment = load_experiment(SETTINGS)
    drawn = ARCHITECTURES[sampling.architecture(3, SETTINGS.compute.seed, 0)]
    rows = sampling.target_rows(experiment.target.labels, 10, 100, SETTINGS.compute.seed, 0)
    # Rows of the target are rows of the training images, less those held out.
    dataset = load_dataset("digits", None)
    raw = np.setdiff1d(
        np.arange(len(dataset.y_train)),
        sampling.validation_rows(dataset.y_train, 10, SETTINGS.compute.seed),
    )[rows]
    changed = augment(
        parse_augmentation(AUGMENT), dataset.x_train[raw], raw, SETTINGS.compute.seed, 0
    )
    targets = experiment.preprocessing.apply(changed).astype(np.float64)
    support = experiment.support.astype(np.float64)
    expected = krr.regress(
        kernel(drawn, support, support),
        kernel(drawn, targets, support),
        centred_one_hot(experiment.support_labels, 10),
        centred_one_hot(experiment.target.labels[rows], 10),
        SETTINGS.compute.ridge,
    )
    assert drawn != "fc1"  # or the test would say less
    assert before["loss"] == pytest.approx(expected.loss, rel=1e-9)


def test_scores_are_those_of_the_first_architecture_and_images_as_they_are(
    tmp_path: pathlib.Path,
) -> None:
    varied = run(tmp_path / "varied", steps=0)
    plain = run(tmp_path / "plain", steps=0, augment=None, sample_architectures=None)
    assert varied[0]["test_accuracy"] == plain[0]["test_accuracy"]
    assert varied[0]["loss"] != plain[0]["loss"]


def test_bits_depend_neither_on_the_number_of_workers_nor_on_a_pause(
    tmp_path: pathlib.Path,
) -> None:
    whole = run(tmp_path / "whole", num_workers=1)
    assert run(tmp_path / "three", num_workers=3) == whole
    run(tmp_path / "paused", steps=1)
    assert run(tmp_path / "paused") == whole
    distilled = {
        (tmp_path / name / "distilled.npz").read_bytes() for name in ("whole", "three", "paused")
    }
    assert len(distilled) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sample_architectures": "fc2,resnet"}, "Unknown architecture 'resnet'"),
        ({"sample_architectures": "convnet4"}, "too small for 'convnet4'"),
        ({"augment": "flop"}, "--augment has 'flop'"),
        ({"engine": "dense", "sample_architectures": "convnet"}, "fully connected"),
    ],
)
def test_settings_that_an_architecture_cannot_have_are_refused(
    tmp_path: pathlib.Path, changes: dict, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(tmp_path, **changes)
    assert not (tmp_path / "config.json").exists()
