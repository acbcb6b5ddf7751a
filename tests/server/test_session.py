"""What a session writes, and how it says that a run ended."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from tiny_runs import HASH, kip_settings, label_settings, tiny_session

from kipper.common.errors import Interrupted, NumericalError, UserError
from kipper.common.sealed import parse_object
from kipper.server.algorithms import algorithm_of
from kipper.server.distilled_set import load_recipe, read_set, save_distilled, set_key
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import ACCURACY, Score
from kipper.server.records import Counters, Evaluation, RunResult
from kipper.server.session import Session
from kipper.server.status import read_status
from kipper.server.workdir import Workdir


def status_of(folder: pathlib.Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return status


def evaluation(step: int, accuracy: float) -> Evaluation:
    score = Score(ACCURACY, accuracy)
    return Evaluation(step=step, loss=0.5, train=score, test=score, seconds=1.5)


def result_of(session: Session, accuracy: float) -> RunResult:
    score = Score(ACCURACY, accuracy)
    return RunResult(
        test=score, natural=score, train=score, loss=0.5, steps=5, account=session.account()
    )


def test_a_run_is_running_until_it_is_finished(tmp_path: pathlib.Path) -> None:
    with tiny_session(kip_settings(tmp_path)):
        begun = status_of(tmp_path)
        assert (begun["state"], begun["steps"], begun["dashboard"]) == ("running", 5, None)
        assert Workdir(tmp_path).is_locked()
    ended = status_of(tmp_path)
    assert ended["state"] == "finished"
    assert "message" not in ended
    assert not Workdir(tmp_path).is_locked()


def test_label_solve_has_no_steps_to_make(tmp_path: pathlib.Path) -> None:
    with tiny_session(label_settings(tmp_path)):
        assert status_of(tmp_path)["steps"] == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NumericalError("The images have diverged."), "The images have diverged."),
        (ZeroDivisionError("a defect"), "ZeroDivisionError('a defect')"),
    ],
)
def test_a_failed_run_says_why(tmp_path: pathlib.Path, error: Exception, message: str) -> None:
    with pytest.raises(type(error)), tiny_session(kip_settings(tmp_path)):
        raise error
    ended = status_of(tmp_path)
    assert (ended["state"], ended["message"]) == ("failed", message)
    assert "The run failed." in (tmp_path / "logs" / "run.log").read_text()


@pytest.mark.parametrize("error", [Interrupted(), KeyboardInterrupt()])
def test_an_interrupted_run_says_so_without_a_message(
    tmp_path: pathlib.Path, error: BaseException
) -> None:
    with pytest.raises(type(error)), tiny_session(kip_settings(tmp_path)):
        raise error
    ended = status_of(tmp_path)
    assert ended["state"] == "interrupted"
    assert "message" not in ended


def test_a_second_coordinator_is_refused_and_changes_nothing(tmp_path: pathlib.Path) -> None:
    with tiny_session(kip_settings(tmp_path)) as session:
        session.status.update(now=True, step=3)
        before = status_of(tmp_path)
        # The folder's lock is held by this process, through another open file.
        with pytest.raises(UserError, match="Another kipper process"), Workdir(tmp_path).locked():
            pass
        assert status_of(tmp_path) == before


def test_before_the_first_step_the_report_has_what_it_needs(tmp_path: pathlib.Path) -> None:
    with tiny_session(kip_settings(tmp_path)) as session:
        recipe = load_recipe(tmp_path / "preprocessing.npz")
        assert recipe.sets == ()
        assert (recipe.class_names, recipe.data_hash) == (("no", "yes"), HASH)
        with np.load(tmp_path / "natural.npz") as natural:
            np.testing.assert_array_equal(natural["images"], session.experiment.support)
            np.testing.assert_array_equal(natural["targets"], [0, 0, 1, 1])
        assert "python" in json.loads((tmp_path / "environment.json").read_text())
        assert not (tmp_path / "result.json").exists()
        assert not (tmp_path / "distilled.npz").exists()


def test_a_request_to_stop_ends_the_run_while_it_computes(tmp_path: pathlib.Path) -> None:
    asked: list[bool] = []
    with tiny_session(kip_settings(tmp_path), should_stop=lambda: bool(asked)) as session:
        support = session.experiment.support
        session.kernel.set_support(support)
        assert session.kernel.support_matrix().shape == (4, 4)
        asked.append(True)
        session.kernel.set_support(support + 1)
        with pytest.raises(Interrupted):
            session.kernel.support_matrix()


def test_a_request_to_finish_lets_blocks_be_computed(tmp_path: pathlib.Path) -> None:
    with tiny_session(kip_settings(tmp_path), should_finish=lambda: True) as session:
        session.kernel.set_support(session.experiment.support)
        assert session.kernel.support_matrix().shape == (4, 4)


def test_counters_continue_those_of_earlier_coordinators(tmp_path: pathlib.Path) -> None:
    with tiny_session(kip_settings(tmp_path)) as session:
        assert session.counters().kernel_pairs == 0
        session.before = Counters(seconds=100.0, kernel_pairs=1000, vjp_pairs=10)
        session.kernel.set_support(session.experiment.support)
        session.kernel.support_matrix()
        counters = session.counters()
        assert (counters.kernel_pairs, counters.vjp_pairs) == (1016, 10)
        assert 100 <= counters.seconds < 110
        account = session.account()
        assert account.pairs_per_second == round(account.kernel_pairs / account.seconds)
        assert account.engine == "fake"
        assert account.bytes_received >= 16 * 4


def test_evaluations_are_recorded_as_they_come(tmp_path: pathlib.Path) -> None:
    with tiny_session(kip_settings(tmp_path)) as session:
        images, labels = session.experiment.support, np.zeros((4, 2))
        for step in (0, 3):
            session.evaluated(evaluation(step, 0.5 + step / 10), LearnedSet(images, labels))
            assert session.workdir.evaluations()[-1] == evaluation(step, 0.5 + step / 10)
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert list(parse_object(lines[0])) == [
            *("step", "loss", "train_accuracy", "test_accuracy", "seconds"),
            *("condition_number", "regularised_condition_number"),
        ]
    assert list((tmp_path / "tensorboard").iterdir())


def test_results_are_one_whole(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(1)
    images, labels = rng.normal(size=(4, 4, 4, 1)).astype(np.float32), rng.normal(size=(4, 2))
    with tiny_session(kip_settings(tmp_path)) as session:
        session.kernel.set_support(images)
        session.kernel.support_matrix()  # so that a worker has said what it is
        result = result_of(session, 0.75)
        session.write_results(LearnedSet(images, labels), result)
        assert session.workdir.read_result() == result
    found = read_set(tmp_path / "distilled.npz")
    assert found.made is not None
    assert (found.made.step, found.made.test) == (5, Score(ACCURACY, 0.75))
    np.testing.assert_array_equal(found.images, images)
    with np.load(tmp_path / "neighbours.npz") as neighbours:
        assert neighbours["images"].shape == images.shape
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert set(environment["workers"]) <= {"worker-0", "worker-1"}
    assert environment["workers"]


def test_the_recipe_knows_the_best_set_too(tmp_path: pathlib.Path) -> None:
    last, best = np.full((4, 4, 4, 1), 2, np.float32), np.full((4, 4, 4, 1), 1, np.float32)
    labels = np.zeros((4, 2))
    with tiny_session(kip_settings(tmp_path)) as session:
        for step, accuracy in ((0, 0.2), (1, 0.9), (2, 0.5)):
            record = {"step": step, "loss": 0.1, "validation_accuracy": accuracy}
            session.workdir.append_record(session.workdir.validation, record)
        save_distilled(session.workdir.best, LearnedSet(best, labels))
        session.write_results(LearnedSet(last, labels), result_of(session, 0.75))
    made = read_set(tmp_path / "best.npz").made
    assert made is not None
    assert (made.key, made.step, made.test) == (set_key(best, labels), 1, None)


def test_a_resumed_run_remembers_the_sets_of_the_finished_one(tmp_path: pathlib.Path) -> None:
    images, labels = np.ones((4, 4, 4, 1), np.float32), np.zeros((4, 2))
    with tiny_session(kip_settings(tmp_path)) as session:
        session.write_results(LearnedSet(images, labels), result_of(session, 0.75))
    with pytest.raises(Interrupted), tiny_session(kip_settings(tmp_path, steps=9)):
        raise Interrupted
    made = read_set(tmp_path / "distilled.npz").made
    assert made is not None
    assert made.step == 5
    assert read_status(tmp_path / "status.json").steps == 9


def test_the_last_status_counts_every_block(tmp_path: pathlib.Path) -> None:
    settings = kip_settings(tmp_path, verify_fraction=0.5, steps=2)
    with tiny_session(settings) as session:
        result = algorithm_of(settings.compute).run(session, None)
    status = read_status(tmp_path / "status.json")
    assert (status.state, status.blocks) == ("finished", result.used_blocks)
    assert status.account.kernel_pairs == result.account.kernel_pairs
