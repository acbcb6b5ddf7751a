"""A whole KIP run: what it evaluates and saves when, and how it resumes."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from tiny_runs import LinearKernel, kip_settings, tiny_session

from kipper.common import messages
from kipper.common.errors import Interrupted, NumericalError
from kipper.common.messages import SUPPORT_KEY, Request
from kipper.common.sealed import parse_object
from kipper.common.settings import RunSettings
from kipper.server import checkpoint
from kipper.server.algorithms.kip import Kip
from kipper.server.checkpoint import support_of
from kipper.server.distilled_set import load_distilled, read_set
from kipper.server.records import RunResult
from kipper.server.snapshots import SupportSnapshot
from kipper.server.status import read_status
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
            np.testing.assert_array_equal(snapshot.images, state["images"])
            np.testing.assert_array_equal(snapshot.labels, state["labels"])
    images, labels = load_distilled(tmp_path / "distilled.npz")
    np.testing.assert_array_equal(images, sink.snapshots[-1].images)
    np.testing.assert_array_equal(labels, sink.snapshots[-1].labels)
    assert not np.array_equal(images, sink.snapshots[0].images)


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


@pytest.mark.parametrize("changes", [{}, {"learn_labels": True}, {"solve_labels_every": 2}])
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
    assert np.array_equal(left.images, support_of(parts / "checkpoints")[1])
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
