"""A whole KIP run: when it evaluates and saves, and how it resumes."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from tiny_runs import LinearKernel, kip_settings, tiny_dataset, tiny_session

from kipper.common import messages
from kipper.common.datasets import Dataset
from kipper.common.errors import Interrupted, NumericalError, UserError
from kipper.common.messages import SUPPORT_KEY, Request
from kipper.common.sealed import parse_object
from kipper.common.settings import DistillSettings, RunSettings
from kipper.server import checkpoint
from kipper.server.algorithms.kip import Kip
from kipper.server.checkpoint import support_of
from kipper.server.distilled_set import load_distilled, read_set, save_distilled
from kipper.server.estimate import Sizes
from kipper.server.experiment import choose_rows
from kipper.server.measures import ACCURACY, Score
from kipper.server.records import RunResult, Validation
from kipper.server.snapshots import SupportSnapshot
from kipper.server.status import read_status
from kipper.server.tiling import Tiling
from kipper.server.workdir import Workdir


class Sink:
    """Keeps the snapshots that it is given."""

    def __init__(self) -> None:
        self.snapshots: list[SupportSnapshot] = []
        self.finished_with: int | None = None

    def put(self, snapshot: SupportSnapshot) -> None:
        assert self.finished_with is None
        self.snapshots.append(snapshot)

    def resume_at(self, step: int) -> None:
        assert step == 0

    def go_back(self, step: int) -> None:
        raise AssertionError(f"nobody lied, and the run went back to step {step}")

    def finish(self) -> None:
        self.finished_with = len(self.snapshots)


class FinishAt:
    """Asks a run to finish once it has made so many steps."""

    def __init__(self, workdir: pathlib.Path, step: int):
        self._workdir, self._step = workdir, step

    def __call__(self) -> bool:
        return (self._workdir / "checkpoints" / f"step-{self._step - 1:06d}").exists()


def run(settings: RunSettings, sink: Sink | None = None, **options: Any) -> RunResult:
    with tiny_session(settings, **options) as session:
        return Kip(settings.compute).run(session, sink)


def lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """Records without the times in them."""
    records = [parse_object(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def saved(workdir: pathlib.Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in Workdir(workdir).checkpoints.glob("step-*"))


@pytest.mark.parametrize(
    ("changes", "evaluated"),
    [
        ({"steps": 9}, [0, 1, 2, 4, 6, 8, 9]),
        ({"steps": 9, "eval_every": 4}, [0, 4, 8, 9]),
        ({"steps": 8, "eval_every": 4}, [0, 4, 8]),
        ({"steps": 2, "eval_every": 100}, [0, 2]),
        ({"steps": 0}, [0]),
    ],
)
def test_the_schedule_decides_what_is_evaluated(
    tmp_path: pathlib.Path, changes: dict[str, int], evaluated: list[int]
) -> None:
    settings, sink = kip_settings(tmp_path, **changes), Sink()
    result = run(settings, sink)
    assert [step for step in range(12) if Kip(settings.compute).is_evaluated(step)][
        : len(evaluated)
    ] == (evaluated)
    workdir = Workdir(tmp_path)
    assert [each.step for each in workdir.evaluations()] == evaluated
    assert [record["step"] for record in lines(workdir.spectrum)] == evaluated
    assert [snapshot.step for snapshot in sink.snapshots] == evaluated
    assert sink.finished_with == len(evaluated)
    last = workdir.evaluations()[-1]
    assert (result.test, result.train, result.loss) == (last.test, last.train, last.loss)
    assert result.steps == settings.compute.steps


def test_named_steps_and_the_last_are_kept_and_snapshots_are_their_states(
    tmp_path: pathlib.Path,
) -> None:
    sink = Sink()
    run(kip_settings(tmp_path, steps=5, learn_labels=True), sink)
    assert saved(tmp_path) == [0, 1, 2, 4, 5]
    for snapshot in sink.snapshots:
        folder = tmp_path / "checkpoints" / f"step-{snapshot.step:06d}"
        with np.load(folder / "state.npz") as state:
            np.testing.assert_array_equal(snapshot.support.images, state["images"])
            np.testing.assert_array_equal(snapshot.support.labels, state["labels"])
    images, labels, _ = load_distilled(tmp_path / "distilled.npz")
    np.testing.assert_array_equal(images, sink.snapshots[-1].support.images)
    np.testing.assert_array_equal(labels, sink.snapshots[-1].support.labels)
    assert not np.array_equal(images, sink.snapshots[0].support.images)


def test_status_follows_the_run(tmp_path: pathlib.Path) -> None:
    seen = []

    def looks(_block: Request) -> None:
        seen.append(read_status(tmp_path / "status.json"))

    result = run(kip_settings(tmp_path, steps=5), behaviour=LinearKernel(looks))
    status = read_status(tmp_path / "status.json")
    assert (status.state, status.step, status.evaluated_step) == ("finished", 5, 5)
    assert (status.checkpoint_step, status.loss, status.test) == (5, result.loss, result.test)
    assert status.seconds_left == 0
    assert status.account.vjp_pairs == result.account.vjp_pairs == 5 * (16 + 4 * 20)
    steps = [status.step for status in seen if status.step is not None]
    assert steps == sorted(steps)
    assert {status.state for status in seen} == {"running"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"learn_labels": True},
        {"solve_labels_every": 2},
        {"learn_labels": True, "loss": "cross_entropy", "average": 0.7, "freeze_pixels": 0.3},
        {"learn_labels": True, "loss": "cross_entropy", "average": 0.7, "optimiser": "soap"},
    ],
)
@pytest.mark.parametrize("at", [1, 2, 5])
def test_an_interrupted_run_resumes_to_the_same_bits(
    tmp_path: pathlib.Path, changes: dict[str, Any], at: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    undisturbed = run(kip_settings(whole, **changes))
    with pytest.raises(Interrupted):
        run(kip_settings(parts, **changes), should_finish=FinishAt(parts, at))
    assert read_status(parts / "status.json").state == "interrupted"
    assert saved(parts)[-1] == at
    assert not (parts / "result.json").exists()
    assert [record["step"] for record in lines(parts / "metrics.jsonl")][-1] < at
    left = read_set(parts / "distilled.npz")
    assert left.made is not None
    assert left.made.step == at
    assert np.array_equal(left.images, support_of(parts / "checkpoints")[1].images)
    resumed = run(kip_settings(parts, **changes))
    for name in ("metrics.jsonl", "spectrum.jsonl"):
        assert lines(parts / name) == lines(whole / name)
    assert (parts / "distilled.npz").read_bytes() == (whole / "distilled.npz").read_bytes()
    assert resumed.initial == undisturbed.initial
    # The interrupted step had not begun, so nothing was computed twice.
    assert resumed.account.kernel_pairs == undisturbed.account.kernel_pairs
    assert resumed.account.vjp_pairs == undisturbed.account.vjp_pairs


def test_an_urgent_request_saves_the_step_that_it_interrupts(tmp_path: pathlib.Path) -> None:
    asked: list[bool] = []

    def asks(block: Request) -> None:
        if isinstance(block, messages.Block) and block.version > 6:
            asked.append(True)

    with pytest.raises(Interrupted):
        run(
            kip_settings(tmp_path, steps=50),
            behaviour=LinearKernel(asks),
            should_stop=lambda: bool(asked),
        )
    interrupted = saved(tmp_path)[-1]
    assert 3 <= interrupted < 10
    sums = json.loads(
        (tmp_path / "checkpoints" / f"step-{interrupted:06d}" / "manifest.json").read_text()
    )
    assert sums["counters"]["kernel_pairs"] > 0
    resumed = run(kip_settings(tmp_path, steps=50))
    whole = run(kip_settings(tmp_path / "whole", steps=50))
    assert resumed.test == whole.test
    assert resumed.account.kernel_pairs >= whole.account.kernel_pairs
    distilled = [folder / "distilled.npz" for folder in (tmp_path, tmp_path / "whole")]
    assert distilled[0].read_bytes() == distilled[1].read_bytes()


def test_counters_and_seconds_include_what_was_resumed(tmp_path: pathlib.Path) -> None:
    first = run(kip_settings(tmp_path, steps=4))
    second = run(kip_settings(tmp_path, steps=9))
    alone = run(kip_settings(tmp_path / "alone", steps=9))
    assert first.account.seconds < second.account.seconds
    # Step 4 is evaluated once more, and its loss is computed once more with its gradient.
    repeated = second.account.kernel_pairs - alone.account.kernel_pairs
    assert repeated == 2 * 16 + 4 * (20 + 20)
    assert second.account.vjp_pairs == alone.account.vjp_pairs


def test_a_checkpoint_is_written_when_the_last_is_old(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_RESUME_POINTS", 0.0)
    run(kip_settings(tmp_path, steps=14))
    # Those that are kept, and the last two of the others.
    assert saved(tmp_path) == [0, 1, 2, 4, 6, 8, 11, 12, 13, 14]


@pytest.mark.parametrize(
    ("changes", "is_natural", "more_pairs"),
    [
        ({}, True, 0),
        ({"learn_labels": True}, True, 0),
        ({"support_init": "noise"}, False, 16 + 4 * 20),
        ({"freeze_pixels": 0.5}, False, 16 + 4 * 20),
        ({"solve_labels_every": 3}, False, 16 + 4 * 20),
    ],
)
def test_an_altered_start_has_natural_images_scored_beside_it(
    tmp_path: pathlib.Path, changes: dict[str, Any], is_natural: bool, more_pairs: int
) -> None:
    natural = run(kip_settings(tmp_path / "natural", steps=1))
    assert natural.natural == natural.initial
    altered = run(kip_settings(tmp_path / "altered", steps=1, **changes))
    assert altered.natural == natural.natural
    assert (altered.initial == natural.natural) == is_natural
    assert altered.initial == Workdir(tmp_path / "altered").evaluations()[0].test
    more = altered.account.kernel_pairs - natural.account.kernel_pairs
    assert more == more_pairs


MANY = Sizes(10, 50_000, 10_000, 5_000, 10, (32, 32, 3), 4)
FEW = dataclasses.replace(MANY, test=1_000, validation=400)


@pytest.mark.parametrize(
    ("sizes", "changes", "evaluated"),
    [
        (FEW, {"steps": 20}, [0, 1, 2, 4, 6, 8, 12, 18, 20]),
        (MANY, {"steps": 600}, [0, 26, 54, 78, 112, 162, 233, 335, 483, 600]),
        (MANY, {"steps": 1600}, [0, 26, 54, 78, 112, 162, 233, 335, 483, 695, 1000, 1500, 1600]),
        (MANY, {"steps": 3}, [0, 3]),
        (MANY, {"steps": 0}, [0]),
        (MANY, {"steps": 5, "eval_every": 2}, [0, 2, 4, 5]),
        (MANY, {"steps": 9, "target_batch_size": 5_000}, [0, 2, 4, 6, 8, 9]),
    ],
)
def test_evaluations_of_many_images_take_at_most_half_the_time_of_the_steps(
    sizes: Sizes, changes: dict[str, int], evaluated: list[int]
) -> None:
    settings = DistillSettings(dataset="mnist", support_size=10, **changes)
    assert Kip(settings).evaluated_steps(sizes) == evaluated
    pairs = {part.name: part for part in Kip(settings).parts(sizes, Tiling(32, 256), False)}
    assert pairs["evaluations"].times == len(evaluated)


FAST = {"learn_labels": True, "loss": "cross_entropy"}


def test_the_average_of_iterates_is_what_is_evaluated_saved_and_shown(
    tmp_path: pathlib.Path,
) -> None:
    last, mean = tmp_path / "last", tmp_path / "mean"
    sink = Sink()
    run(kip_settings(last, steps=4, eval_every=1, **FAST))
    result = run(kip_settings(mean, steps=4, eval_every=1, average=0.5, **FAST), sink)

    def states(folder: pathlib.Path) -> list[dict[str, np.ndarray]]:
        paths = sorted(folder.glob("checkpoints/step-*/state.npz"))
        return [dict(np.load(path)) for path in paths]

    iterates, averaged = states(last), states(mean)
    names = ("images", "labels", "log_temperature")
    expected = {name: iterates[0][name] for name in names}
    for step, (iterate, found) in enumerate(zip(iterates, averaged, strict=True)):
        for i, name in enumerate(names):
            # The steps are those of a run without average.
            np.testing.assert_array_equal(found[f"iterate_{i}"], iterate[name])
            if step in (3, 4):  # 3 has no checkpoint of its own
                continue
            decay = min(0.5, step / (step + 9)) if step else 1.0
            expected[name] = decay * expected[name] + (1 - decay) * iterate[name]
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(averaged[-1]["images"], iterates[-1]["images"])
    snapshot = sink.snapshots[-1]
    assert load_distilled(mean / "distilled.npz").temperature == snapshot.support.temperature
    for name in ("images", "labels"):
        np.testing.assert_array_equal(averaged[-1][name], getattr(snapshot.support, name))
    assert np.log(snapshot.support.temperature) == pytest.approx(averaged[-1]["log_temperature"][0])
    scores = [each.test for each in Workdir(mean).evaluations()]
    assert scores[-1] == result.test
    assert scores[-1].cross_entropy is not None
    assert scores[-1] != Workdir(last).evaluations()[-1].test
    # The loss and the training score are those of the step.
    for one, other in zip(Workdir(mean).evaluations(), Workdir(last).evaluations(), strict=True):
        assert (one.loss, one.train) == (other.loss, other.train)


class ScoresInTurn(Sink):
    """Writes these validation accuracies, one for each snapshot."""

    def __init__(self, workdir: Workdir, accuracies: list[float]):
        super().__init__()
        self._workdir, self._left = workdir, accuracies

    def put(self, snapshot: SupportSnapshot) -> None:
        super().put(snapshot)
        score = Score(ACCURACY, self._left[len(self.snapshots) - 1])
        if not any(score.value <= each.validation.value for each in self._workdir.validations()):
            save_distilled(self._workdir.best, snapshot.support)
        record = Validation(snapshot.step, snapshot.loss, score).record()
        self._workdir.append_record(self._workdir.validation, record)


def test_a_run_ends_once_the_score_on_held_out_images_has_stopped_rising(
    tmp_path: pathlib.Path,
) -> None:
    workdir = Workdir(tmp_path)
    changes = {"steps": 50, "eval_every": 2, "stop": "plateau", "patience": 4, "average": 0.9}
    settings = kip_settings(tmp_path, **changes)
    scores = [0.2, 0.4, 0.3, 0.6, 0.6, 0.5, 0.9]  # of steps 0, 2, 4, ...: best at 6, ends at 10
    result = run(settings, ScoresInTurn(workdir, scores))
    assert (result.steps, result.stopped, result.best_step) == (10, "plateau", 6)
    assert result.best == {each.step: each.test for each in workdir.evaluations()}[6]
    assert saved(tmp_path)[-1] == 10
    best, last = (read_set(path).made for path in (workdir.best, workdir.distilled))
    assert (best.step, best.test, last.step) == (6, result.best, 10)
    assert workdir.read_result() == result
    ends = {patience: Kip(settings.replace(patience=patience).compute) for patience in (4, 5)}
    assert [each.is_end(result) for each in ends.values()] == [True, False]
    # The first ten steps are those of a run that goes on.
    on = run(kip_settings(tmp_path / "on", **{**changes, "stop": "steps", "steps": 10}))
    assert (on.stopped, on.test) == (None, result.test)
    same = [(folder / "distilled.npz").read_bytes() for folder in (tmp_path, tmp_path / "on")]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"average": 1.0}, "--average is 1.0; it must be from 0 to below 1."),
        ({"average": -0.1}, "--average is -0.1; it must be from 0 to below 1."),
        ({"average": float("nan")}, "--average is nan; it must be from 0 to below 1."),
        ({"loss": "hinge"}, "--loss is 'hinge'; it must be one of squared, cross_entropy."),
        ({"recipe": "slow"}, "--recipe is 'slow'; it must be one of paper, fast."),
        ({"patience": 0}, "--patience is 0; it must be 1 or more."),
        ({**FAST, "learn_labels": False, "solve_labels_every": 2}, "give --loss=squared."),
        ({"average": 0.5, "solve_labels_every": 2}, "give --average=0."),
    ],
)
def test_what_a_loss_an_average_or_a_plateau_cannot_be_is_refused(
    tmp_path: pathlib.Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        kip_settings(tmp_path, **changes).check()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "kept", "targets", "sentence"),
    [
        ({"loss": "cross_entropy"}, 60, True, "has real-valued targets; give --loss=squared."),
        ({"stop": "plateau"}, 8, False, "of 8 training images none can be held out"),
    ],
)
def test_data_that_do_not_fit_the_loss_or_the_stop_are_refused(
    tmp_path: pathlib.Path, changes: dict[str, Any], kept: int, targets: bool, sentence: str
) -> None:
    compute = kip_settings(tmp_path, **changes).compute
    whole = tiny_dataset()
    y_train = whole.y_train[:kept, np.newaxis].astype(float) if targets else whole.y_train[:kept]
    y_test = whole.y_test[:, np.newaxis].astype(float) if targets else whole.y_test
    names = () if targets else whole.class_names
    dataset = Dataset("tiny", whole.x_train[:kept], y_train, whole.x_test, y_test, names)
    with pytest.raises(UserError, match=sentence):
        Kip(compute).check_data(choose_rows(compute, dataset), "hash")


def test_a_kernel_that_is_not_finite_ends_the_run(tmp_path: pathlib.Path) -> None:
    linear = LinearKernel()

    def diverges(request: Request) -> messages.Reply | None:
        reply = linear(request)
        if isinstance(reply, messages.KernelBlock) and request.version > 3:
            return messages.KernelBlock(kernel=np.full_like(reply.kernel, np.nan))
        return reply

    with pytest.raises(NumericalError, match="not finite"):
        run(kip_settings(tmp_path), behaviour=diverges)
    status = read_status(tmp_path / "status.json")
    assert status.state == "failed"
    assert status.message is not None
    assert "not finite" in status.message
    assert not (tmp_path / "result.json").exists()
    assert saved(tmp_path)[-1] < 5


def test_support_matrices_are_computed_once_a_step_and_once_an_evaluation(
    tmp_path: pathlib.Path,
) -> None:
    blocks: list[messages.Block] = []

    def notes(request: Request) -> None:
        if isinstance(request, messages.Block) and request.columns_key == SUPPORT_KEY:
            blocks.append(request)

    run(kip_settings(tmp_path, steps=5, verify_fraction=0.0), behaviour=LinearKernel(notes))
    linearised = {block.version for block in blocks if block.linearise}
    evaluated = {block.version for block in blocks if not block.linearise}
    assert len(linearised) == 6
    assert len(evaluated) == 5  # steps 0, 1, 2, 4 and 5
