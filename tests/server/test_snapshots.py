"""The keeper of the best snapshot."""

import pathlib

import numpy as np
import pytest

from kipper.common.settings import DistillSettings, RunSettings
from kipper.server.distilled_set import load_distilled
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import ACCURACY, R_SQUARED, Score
from kipper.server.snapshots import BestKeeper, SupportSnapshot
from kipper.server.workdir import Workdir


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> Workdir:
    made = Workdir(tmp_path / "run")
    made.prepare(RunSettings.of(DistillSettings, workdir=str(made.path), dataset="digits"), "hash")
    return made


class Scores:
    """Accuracy by step, which is the value of every pixel; remembers the steps it scored."""

    def __init__(self, accuracies: dict[int, float]):
        self._accuracies = accuracies
        self.asked: list[int] = []

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> Score:
        np.testing.assert_array_equal(labels, -images[:, 0, 0])
        self.asked.append(int(images[0, 0, 0, 0]))
        return Score(ACCURACY, self._accuracies[self.asked[-1]])


def snapshot(step: int) -> SupportSnapshot:
    images = np.full((2, 3, 3, 1), step, np.float32)
    support = LearnedSet(images, -np.full((2, 1), float(step)))
    return SupportSnapshot(step, support, loss=0.5**step)


def kept_step(workdir: Workdir) -> int:
    images, labels, _ = load_distilled(workdir.best)
    assert (images == -labels[0, 0]).all()
    return int(images[0, 0, 0, 0])


def test_a_negative_r2_is_kept_if_it_is_the_first(workdir: Workdir) -> None:
    keeper = BestKeeper(workdir, lambda images, labels: Score(R_SQUARED, -3.0, loss=0.5))
    keeper.put(snapshot(2))
    assert kept_step(workdir) == 2
    (record,) = workdir.read_records(workdir.validation)
    assert (record["validation_r2"], record["validation_mse"]) == (-3.0, 1.0)
    better = BestKeeper(workdir, lambda images, labels: Score(R_SQUARED, -4.0, loss=0.5))
    better.put(snapshot(3))
    assert kept_step(workdir) == 2


def test_the_best_is_kept(workdir: Workdir) -> None:
    scores = Scores({0: 0.2, 1: 0.5, 2: 0.4, 3: 0.7, 4: 0.1})
    keeper = BestKeeper(workdir, scores)
    for step, best in ((0, 0), (1, 1), (2, 1), (3, 3), (4, 3)):
        keeper.put(snapshot(step))
        assert kept_step(workdir) == best
    keeper.finish()
    assert kept_step(workdir) == 3


def test_the_first_of_two_equal_scores_is_kept(workdir: Workdir) -> None:
    keeper = BestKeeper(workdir, Scores({0: 0.5, 1: 0.5}))
    keeper.put(snapshot(0))
    keeper.put(snapshot(1))
    assert kept_step(workdir) == 0


def test_an_accuracy_of_zero_is_kept_if_there_is_no_other(workdir: Workdir) -> None:
    BestKeeper(workdir, Scores({0: 0.0})).put(snapshot(0))
    assert kept_step(workdir) == 0


def test_every_snapshot_is_recorded(workdir: Workdir) -> None:
    keeper = BestKeeper(workdir, Scores({0: 0.5, 2: 0.25}))
    keeper.put(snapshot(0))
    keeper.put(snapshot(2))
    assert workdir.read_records(workdir.validation) == [
        {"step": 0, "loss": 1.0, "validation_accuracy": 0.5},
        {"step": 2, "loss": 0.25, "validation_accuracy": 0.25},
    ]


def test_a_step_is_scored_only_once(workdir: Workdir) -> None:
    scores = Scores({0: 0.5, 1: 0.6})
    keeper = BestKeeper(workdir, scores)
    for step in (0, 0, 1, 0, 1):
        keeper.put(snapshot(step))
    assert scores.asked == [0, 1]
    assert len(workdir.read_records(workdir.validation)) == 2


def test_a_restarted_keeper_remembers(workdir: Workdir) -> None:
    first = BestKeeper(workdir, Scores({0: 0.5, 1: 0.9}))
    first.put(snapshot(0))
    first.put(snapshot(1))
    scores = Scores({0: 1.0, 1: 1.0, 2: 0.8, 3: 0.95})
    restarted = BestKeeper(workdir, scores)
    for step in (0, 1, 2):
        restarted.put(snapshot(step))
    assert scores.asked == [2]
    assert kept_step(workdir) == 1
    restarted.put(snapshot(3))
    assert kept_step(workdir) == 3


def test_a_record_cut_short_by_a_crash_is_the_only_one_lost(workdir: Workdir) -> None:
    workdir.append_record(workdir.validation, {"step": 0, "loss": 1.0, "validation_accuracy": 0.1})
    with open(workdir.validation, "a") as file:
        file.write('{"step": 1, "lo')
    BestKeeper(workdir, Scores({1: 0.9})).put(snapshot(1))
    BestKeeper(workdir, Scores({2: 0.5})).put(snapshot(2))
    assert kept_step(workdir) == 1
    assert [r["step"] for r in workdir.read_records(workdir.validation)] == [0, 1, 2]
