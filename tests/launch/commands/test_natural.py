"""`kipper evaluate --natural`: the numbers, the comparison, the figure, and mistakes."""

import json

import jax
import numpy as np
import pytest
from installation import needs_neural_tangents
from matplotlib.image import imread
from oracle import reference_kernel

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.datasets import load_dataset
from kipper.common.labels import centred_one_hot
from kipper.common.precision import enable_x64
from kipper.launch.commands.natural import NaturalScores, natural_images_for
from kipper.launch.main import run
from kipper.server import sampling
from kipper.server.measures import ACCURACY, Score

DIGITS = ["evaluate", "--dataset=digits"]


def _report(capsys, *flags):
    capsys.readouterr()
    assert run([*flags]) == 0
    return json.loads(capsys.readouterr().out)


def _plainly(size, seed, ridge):
    """Accuracy and loss on digits, from pixels on, in float64."""
    digits = load_dataset("digits", None)
    rows = sampling.support_rows(digits.y_train, 10, size, seed)
    mean, std = digits.x_train.mean(dtype=np.float64), digits.x_train.std(dtype=np.float64)
    support, test = (digits.x_train[rows] - mean) / std, (digits.x_test - mean) / std
    with enable_x64():
        kernel = jax.jit(reference_kernel(KernelSpec(architecture_named("fc2"), "ntk", "float64")))
        k_ss, k_ts = np.array(kernel(support, support)), np.array(kernel(test, support))
    labels = np.eye(10)[digits.y_train[rows]] - 0.1
    regularised = k_ss + ridge * np.mean(np.diag(k_ss)) * np.eye(size)
    predictions = k_ts @ np.linalg.solve(regularised, labels)
    targets = centred_one_hot(digits.y_test, 10)
    right = np.argmax(predictions, axis=1) == digits.y_test
    return right.mean(), 0.5 * np.mean((predictions - targets) ** 2)


@pytest.mark.thorough
@needs_neural_tangents
def test_each_number_is_what_a_plain_computation_gives(capsys):
    flags = ["--architecture=fc2", "--ridge=1e-3", "--seeds=2", "--kernel_dtype=float64"]
    report = _report(capsys, *DIGITS, "--natural=50,20", *flags)
    assert [entry["support_size"] for entry in report["natural"]] == [20, 50]
    for entry in report["natural"]:
        expected = [_plainly(entry["support_size"], seed, 1e-3) for seed in range(2)]
        accuracies, losses = np.transpose(expected)
        assert entry["test_accuracies"] == list(accuracies)
        np.testing.assert_allclose(entry["test_loss"], losses.mean(), rtol=2e-5)
        assert entry["test_accuracy"] == pytest.approx(accuracies.mean())
        assert entry["test_accuracy_spread"] == pytest.approx(accuracies.std(ddof=1))
    # Of the larger draw alone: 50 x 50, and 360 tests, for each of two seeds.
    assert report["kernel_pairs"] == 2 * (50 * 50 + 360 * 50)


def test_the_same_command_gives_the_same_and_each_seed_another_draw(capsys):
    once, again = (_report(capsys, *DIGITS, "--natural=10") for _ in range(2))
    assert once == again
    assert len(set(once["natural"][0]["test_accuracies"])) == 3
    alone = _report(capsys, *DIGITS, "--natural=10", "--seeds=1")
    assert alone["natural"][0]["test_accuracies"] == once["natural"][0]["test_accuracies"][:1]
    assert alone["natural"][0]["test_accuracy_spread"] is None


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A run that starts from natural images of the whole training set."""
    workdir = tmp_path_factory.mktemp("runs") / "solved"
    flags = ["--dataset=digits", "--support_size=20", "--train_limit=400", "--test_limit=200"]
    assert run(["solve_labels", f"--workdir={workdir}", "--kernel=nngp", *flags]) == 0
    return workdir


def test_beside_a_distilled_set_all_is_as_in_its_run(solved, tmp_path, capsys):
    figure = tmp_path / "natural.png"
    flags = [f"--distilled={solved / 'distilled.npz'}", f"--figure={figure}", "--seeds=2"]
    report = _report(capsys, "evaluate", "--natural=20,100,200", *flags)
    result = json.loads((solved / "result.json").read_text())
    assert report["natural"][0]["test_accuracies"][0] == result["natural_accuracy"]
    assert report["distilled"]["test_accuracy"] == result["test_accuracy"]
    assert report["kernel"] == "nngp"
    assert report["test_size"] == 200
    needed = report["natural_images_needed"]
    assert 20 < needed < 100
    assert f"takes about {needed}, {needed / 20:.3g} times as many." in report["finding"]
    picture = imread(figure)
    assert picture.shape[:2] == (540, 734)
    assert 0.01 < (picture[..., :3] < 0.9).any(axis=-1).mean() < 0.2


def test_how_many_images_is_read_off_on_a_log_scale():
    curve = [(10, 0.2), (1000, 0.6), (2000, 0.5), (4000, 0.9)]
    natural = [NaturalScores(n, (Score(ACCURACY, a),)) for n, a in curve]
    for accuracy, images in ((0.4, 100), (0.6, 1000), (0.7, 2828), (0.1, 10), (0.95, None)):
        assert natural_images_for(natural, accuracy) == images


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--natural=10,x"], "--natural is '10,x'; it must be numbers of images"),
        (["--natural="], "--natural is ''"),
        (["--natural=0"], "--natural has 0"),
        (["--natural=15"], "--natural has 15; for 'digits' it must be a multiple of the 10"),
        (["--natural=50000"], "and at most 1"),
        (["--natural=10", "--seeds=0"], "--seeds is 0; it must be 1 or more."),
        (["--natural=10", "--figure=/nonexistent/a.png"], "but that folder does not exist"),
        (["--figure=a.png"], "--figure shows the results of --natural"),
        (["--natural=10", "--dataset="], "--dataset is required"),
        (["--natural=10", "--architecture=myrtle5", "--dataset=nothing"], "nothing"),
        ([], "--distilled is required"),
    ],
)
def test_a_mistake_gets_one_sentence(capsys, flags, sentence):
    assert run([*DIGITS, *flags]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
