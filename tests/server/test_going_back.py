"""Liars in whole runs: the run goes back by itself, and ends in the bits of a run without it."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_runs import LinearKernel, kip_settings, label_settings, tiny_session

from kipper.common import messages
from kipper.common.errors import Interrupted, NumericalError, WorkerError
from kipper.common.messages import Reply, Request
from kipper.common.sealed import read_object, write_object
from kipper.common.settings import RunSettings
from kipper.server import checkpoint, going_back
from kipper.server.algorithms import algorithm_of
from kipper.server.bans import Ban, Bans
from kipper.server.confirmations import LiesUsed
from kipper.server.disputes import OpenDisputes
from kipper.server.distilled_set import load_distilled, save_distilled
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import ACCURACY, Score
from kipper.server.pool import Pool
from kipper.server.records import RunResult, Validation
from kipper.server.scheduler import rules
from kipper.server.scheduler.event_log import replay
from kipper.server.snapshots import BestKeeper, SnapshotSink, SupportSnapshot
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

Behaviour = Callable[[Request], Any]


class Liar:
    """Multiplies its numbers, in blocks of steps from `first` to `last`."""

    def __init__(
        self,
        first: int = 0,
        last: int = 10**6,
        where: type = messages.BlockVjp,
        factor: float = 1.5,
    ):
        self._factor = np.float32(factor)
        self._kernel = LinearKernel()
        self._steps: dict[int, int] = {}
        self._first, self._last, self._where = first, last, where

    def __call__(self, request: Request) -> Reply | None:
        reply = self._kernel(request)
        if isinstance(request, messages.PutSupport):
            self._steps[request.version] = request.step
        if reply is None or not isinstance(request, self._where):
            return reply
        assert isinstance(request, messages.Block | messages.BlockVjp)
        if not self._first <= self._steps[request.version] <= self._last:
            return reply
        arrays = {name: array * self._factor for name, array in vars(reply).items()}
        return dataclasses.replace(reply, **arrays)


def honest() -> list[Behaviour]:
    return [LinearKernel(), LinearKernel(), LinearKernel()]


def with_liar(**changes: Any) -> list[Behaviour]:
    return [LinearKernel(), Liar(**changes), LinearKernel()]


def settings_of(workdir: pathlib.Path, **changes: Any) -> RunSettings:
    tiles = {"block_support": 2, "block_target": 5}
    return kip_settings(workdir, **{"steps": 9, "verify_fraction": 0.5, **tiles, **changes})


def run(
    settings: RunSettings,
    behaviours: list[Behaviour],
    sink: Callable[[Workdir], SnapshotSink] | None = None,
    **options: Any,
) -> RunResult:
    algorithm = algorithm_of(settings.compute)
    with tiny_session(settings, behaviours=behaviours, **options) as session:
        return algorithm.run(session, sink(session.workdir) if sink else None)


def keeper(workdir: Workdir) -> BestKeeper:
    """Keeps the set with the largest pixel, scored without workers."""
    return BestKeeper(workdir, lambda images, _: Score(ACCURACY, float(np.abs(images).max()) / 9))


def log(workdir: pathlib.Path) -> str:
    return (workdir / "logs" / "run.log").read_text()


def numbers(workdir: pathlib.Path) -> dict[str, Any]:
    """Everything that a run's numbers are in, without times."""
    found: dict[str, Any] = {}
    paths = Workdir(workdir)
    for path in (paths.distilled, paths.best, *sorted(paths.checkpoints.glob("*/state.npz"))):
        if path.exists():
            found[f"{path.relative_to(workdir)}"] = path.read_bytes()
    for path in (paths.metrics, paths.spectrum, paths.validation):
        found[path.name] = [{**each, "seconds": 0} for each in paths.read_records(path)]
    return found


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    workdir = tmp_path_factory.mktemp("runs") / "quiet"
    result = run(settings_of(workdir, verify_fraction=0.0), honest(), keeper)
    assert (result.used_blocks, result.confirmed_blocks, result.liars) == (None, None, None)
    return numbers(workdir)


@pytest.mark.parametrize("first", [0, 4, 8])
def test_a_run_goes_back_to_before_the_first_numbers_of_a_liar(
    tmp_path: pathlib.Path, quiet: dict[str, Any], first: int
) -> None:
    result = run(settings_of(tmp_path), with_liar(first=first), keeper)
    assert numbers(tmp_path) == quiet
    assert result.used_blocks is not None
    assert result.confirmed_blocks is not None
    assert 0 < result.confirmed_blocks < result.used_blocks
    assert "Numbers of worker-1 were used from step 0 on and are wrong" in log(tmp_path)
    assert result.liars == read_status(tmp_path / "status.json").liars == {"worker-1": 0}
    assert read_status(tmp_path / "status.json").state == "finished"


def test_what_was_confirmed_before_the_first_lie_is_kept(
    tmp_path: pathlib.Path, quiet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose answers were all confirmed until a restart has nothing to go back for."""
    with pytest.raises(Interrupted):
        run(
            settings_of(tmp_path, verify_fraction=1.0),
            honest(),
            keeper,
            should_finish=lambda: (tmp_path / "checkpoints/step-000004").exists(),
        )
    begun: list[int] = []
    newest = checkpoint.ResumePoints.newest

    def notes(self: Any, template: Any) -> Any:
        found = newest(self, template)
        begun.append(found.step if found is not None else 0)
        return found

    monkeypatch.setattr(checkpoint.ResumePoints, "newest", notes)
    run(settings_of(tmp_path), with_liar(first=7), keeper)
    assert begun[0] == 5
    assert set(begun[1:]) <= {4, 5, 6}
    assert quiet.items() <= numbers(tmp_path).items()


def _believe_a_liar(workdir: pathlib.Path) -> None:
    """A coordinator that verifies nothing uses lies of step 2, and is interrupted at step 6."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "SLOW_SECONDS", 60.0)  # nobody is faster than the liar
        with pytest.raises(Interrupted):
            run(
                settings_of(workdir, verify_fraction=0.0),
                with_liar(first=2, last=2),
                keeper,
                should_finish=lambda: (workdir / "checkpoints/step-000006").exists(),
            )


@pytest.mark.parametrize("is_known", [True, False])
def test_lies_told_to_an_earlier_coordinator_are_undone(
    tmp_path: pathlib.Path, quiet: dict[str, Any], is_known: bool
) -> None:
    _believe_a_liar(tmp_path)
    assert (
        numbers(tmp_path)["checkpoints/step-000006/state.npz"]
        != (quiet["checkpoints/step-000006/state.npz"])
    )
    if not is_known:  # as checkpoints of earlier versions are
        for path in tmp_path.glob("checkpoints/*/manifest.json"):
            manifest = dict(read_object(path))
            del manifest["confirmations"]
            write_object(path, manifest)
    result = run(settings_of(tmp_path, verify_fraction=1.0), with_liar(first=7), keeper)
    assert numbers(tmp_path) == quiet
    assert result.liars == {"worker-1": 0}


def test_a_liar_that_an_earlier_coordinator_banned_is_not_believed_afterwards(
    tmp_path: pathlib.Path, quiet: dict[str, Any]
) -> None:
    """As if the coordinator had died between the ban and the going back."""
    _believe_a_liar(tmp_path)
    Bans(tmp_path / "bans.json").add("worker-1", Ban("it lied", "somewhere", ""))
    result = run(settings_of(tmp_path, verify_fraction=0.0), honest(), keeper)
    assert numbers(tmp_path) == quiet
    assert result.liars == {"worker-1": 0}


def test_two_workers_that_differ_leave_nothing_that_rests_on_one_of_them(
    tmp_path: pathlib.Path, quiet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "VERIFIER_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(rules, "CHECK_SECONDS", 0.05)
    with pytest.raises(WorkerError, match="no third can decide"):
        run(settings_of(tmp_path), [LinearKernel(), Liar(first=4)], keeper)
    found = Workdir(tmp_path)
    assert checkpoint.steps_in(found.checkpoints) == [0]
    assert found.evaluations() == []
    assert not found.best.exists()
    assert not found.result.exists()
    assert read_status(found.status).state == "failed"
    run(settings_of(tmp_path), honest(), keeper)
    assert numbers(tmp_path) == quiet


def test_a_dispute_that_was_open_when_the_coordinator_was_killed_is_not_forgotten(
    tmp_path: pathlib.Path, quiet: dict[str, Any]
) -> None:
    class Killed(BaseException):
        pass

    found = Workdir(tmp_path)

    def is_killed() -> bool:
        if found.disputes.exists():
            raise Killed
        return False

    _believe_a_liar(tmp_path)
    with pytest.raises(Killed):
        run(
            settings_of(tmp_path, verify_fraction=1.0),
            [LinearKernel(), Liar(first=6)],
            keeper,
            should_stop=is_killed,
        )
    assert checkpoint.steps_in(found.checkpoints)[-1] > 2  # with lies of step 2
    left = OpenDisputes(found.disputes).left
    assert all(sorted(dispute) == [["worker-0"], ["worker-1"]] for dispute in left)
    assert left
    result = run(settings_of(tmp_path, verify_fraction=0.0), honest(), keeper)
    assert "Numbers of worker-0 and worker-1 were used from step 0 on" in log(tmp_path)
    assert numbers(tmp_path) == quiet
    assert result.liars is None  # nobody knows which of them lied
    assert not found.disputes.exists()


def test_a_dispute_that_is_judged_leaves_no_trace(tmp_path: pathlib.Path) -> None:
    run(settings_of(tmp_path, verify_fraction=1.0), with_liar(first=4), keeper)
    assert not Workdir(tmp_path).disputes.exists()


def test_the_files_of_a_finished_run_that_is_extended_go_too(
    tmp_path: pathlib.Path, quiet: dict[str, Any]
) -> None:
    workdir = Workdir(tmp_path)
    seen: list[bool] = []

    class Watching(LinearKernel):
        def __call__(self, request: Request) -> Reply | None:
            seen.append(workdir.result.exists())
            return super().__call__(request)

    lying = [LinearKernel(), Liar(first=2, last=2), LinearKernel()]
    run(settings_of(tmp_path, steps=5, verify_fraction=0.0), lying, keeper)
    run(
        settings_of(tmp_path, verify_fraction=1.0),
        [Watching(), Liar(first=7), LinearKernel()],
        keeper,
    )
    assert seen[0]
    assert not seen[-1]
    assert quiet.items() <= numbers(tmp_path).items()


def test_a_coordinator_that_died_while_it_went_back_is_followed_by_one_that_does(
    tmp_path: pathlib.Path, quiet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def dies(_folder: pathlib.Path, _step: int) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(going_back.checkpoint, "remove_after", dies)
        with pytest.raises(Killed):
            run(settings_of(tmp_path), with_liar(first=2), keeper)
    run(settings_of(tmp_path), honest(), keeper)
    assert numbers(tmp_path) == quiet
    assert not Workdir(tmp_path).going_back.exists()


def test_label_solve_goes_back_too(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_RESUME_POINTS", 0.0)
    quiet, lied = tmp_path / "quiet", tmp_path / "lied"
    run(label_settings(quiet).replace(verify_fraction=0.0), honest())
    behaviours = [LinearKernel(), Liar(first=-1, where=messages.Block), LinearKernel()]
    result = run(label_settings(lied).replace(verify_fraction=0.5), behaviours)
    assert list(result.liars or ["worker-1"]) == ["worker-1"]
    assert (lied / "distilled.npz").read_bytes() == (quiet / "distilled.npz").read_bytes()


def test_an_error_that_lies_may_have_caused_has_the_last_steps_verified(
    tmp_path: pathlib.Path, quiet: dict[str, Any]
) -> None:
    """A kernel with entries of the wrong sign is not positive definite."""
    behaviours = with_liar(first=3, where=messages.Block, factor=-1.0)
    result = run(settings_of(tmp_path, verify_fraction=0.0), behaviours, keeper)
    assert numbers(tmp_path) == quiet
    assert result.liars == {"worker-1": 0}
    # Only those blocks were verified that led to the error.
    assert result.confirmed_blocks is not None
    assert result.used_blocks is not None
    assert result.confirmed_blocks < result.used_blocks / 2
    assert replay(tmp_path / "logs" / "events.jsonl") > 0


def test_an_error_of_honest_workers_is_raised_once_it_is_confirmed(tmp_path: pathlib.Path) -> None:
    settings = settings_of(tmp_path, verify_fraction=0.0, ridge=-0.9)
    with pytest.raises(NumericalError, match="definite"):
        run(settings, honest())
    assert log(tmp_path).count("A worker may have computed wrong numbers") == 1


def test_a_run_that_is_asked_to_stop_judges_first(
    tmp_path: pathlib.Path, quiet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [LiesUsed(3, {"worker-1"})]

    def settle(_pool: Pool) -> None:
        if left:
            raise left.pop()

    with monkeypatch.context() as patched:
        patched.setattr(Pool, "settle", settle)
        with pytest.raises(Interrupted):
            run(
                settings_of(tmp_path),
                honest(),
                keeper,
                should_finish=lambda: not left or (tmp_path / "checkpoints/step-000006").exists(),
            )
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [0, 1, 2]
    run(settings_of(tmp_path), honest(), keeper)
    assert numbers(tmp_path) == quiet


class TestBestKeeper:
    """What is the best once later snapshots are forgotten."""

    @pytest.fixture
    def workdir(self, tmp_path: pathlib.Path) -> Workdir:
        """A run whose best set is that of step 6, and before it that of step 2."""
        settings = settings_of(tmp_path, verify_fraction=0.0)
        run(settings, honest())
        workdir = Workdir(tmp_path)
        for step, value in ((0, 0.1), (2, 0.5), (4, 0.3), (6, 0.9)):
            record = Validation(step, 0.25 * step, Score(ACCURACY, value)).record()
            workdir.append_record(workdir.validation, record)
        images = checkpoint.support_at(workdir.checkpoints, 6)
        assert images is not None
        save_distilled(workdir.best, images)
        return workdir

    def best_is(self, workdir: Workdir, step: int) -> bool:
        expected = checkpoint.support_at(workdir.checkpoints, step)
        assert expected is not None
        save_distilled(workdir.path / "expected.npz", expected)
        return workdir.best.read_bytes() == (workdir.path / "expected.npz").read_bytes()

    @pytest.mark.parametrize(("step", "best"), [(7, 6), (6, 2), (3, 2), (2, 0)])
    def test_it_is_that_of_a_checkpoint(self, workdir: Workdir, step: int, best: int) -> None:
        keeper(workdir).go_back(step)
        assert self.best_is(workdir, best)
        assert [each.step for each in workdir.validations()] == [
            each for each in (0, 2, 4, 6) if each < step
        ]

    def test_there_is_none_before_the_first(self, workdir: Workdir) -> None:
        keeper(workdir).go_back(0)
        assert not workdir.best.exists()
        assert workdir.validations() == []

    def test_without_its_checkpoint_it_is_lost(
        self, workdir: Workdir, caplog: pytest.LogCaptureFixture
    ) -> None:
        (workdir.checkpoints / "step-000002" / "state.npz").write_bytes(b"damaged")
        keeper(workdir).go_back(6)
        assert not workdir.best.exists()
        assert "of step 2, is lost" in caplog.text

    def test_a_step_that_is_scored_with_another_loss_was_wrong(self, workdir: Workdir) -> None:
        images, labels = np.full((4, 4, 4, 1), 7.2, np.float32), np.zeros((4, 2))
        kept = keeper(workdir)
        kept.put(SupportSnapshot(4, LearnedSet(images, labels), loss=1.0))  # as before
        assert [each.step for each in workdir.validations()] == [0, 2, 4, 6]
        kept.put(SupportSnapshot(4, LearnedSet(images, labels), loss=1.5))
        assert [(each.step, each.loss) for each in workdir.validations()] == [
            *((0, 0.0), (2, 0.5)),
            (4, 1.5),
        ]
        np.testing.assert_array_equal(load_distilled(workdir.best)[0], images)
