"""Checkpoints: bitwise round trips, damage, leftovers and pruning."""

import json
import logging
import os
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from kipper.common.sealed import sealed
from kipper.server import checkpoint
from kipper.server.checkpoint import Checkpoint, is_named, newest, save
from kipper.server.kip import KipState, initial_state
from kipper.server.records import Counters

CONFIG = {"command": "DistillSettings", "settings": {"seed": 3}, "data_hash": "abc"}
COUNTERS = Counters(seconds=12.345, kernel_pairs=2**40, vjp_pairs=7)


def template(learn_labels: bool = True, dtype: str = "float32") -> KipState:
    return initial_state(np.zeros((4, 3, 3, 1), dtype), np.zeros((4, 2)), learn_labels)


def state(seed: int, learn_labels: bool = True, dtype: str = "float32") -> KipState:
    """A state whose every floating-point number is random."""
    rng = np.random.default_rng(seed)

    def filled(leaf: np.ndarray) -> np.ndarray:
        if leaf.dtype.kind == "f":
            return rng.normal(size=leaf.shape).astype(leaf.dtype)
        return np.full_like(leaf, seed)  # the optimiser's count of steps

    return jax.tree_util.tree_map(filled, template(learn_labels, dtype))


def write(folder: pathlib.Path, step: int, keep: bool | None = None) -> pathlib.Path:
    keep = is_named(step) if keep is None else keep
    save(folder, Checkpoint(step, state(step), COUNTERS), CONFIG, keep)
    return folder / f"step-{step:06d}"


def check_newest(folder: pathlib.Path, step: int) -> None:
    """Checks that the newest intact checkpoint is that of `step`, bit for bit."""
    found = newest(folder, template())
    assert found is not None
    assert found.step == step
    check_same_state(found.state, state(step))


def check_same_state(found: KipState, expected: KipState) -> None:
    assert jax.tree_util.tree_structure(found) == jax.tree_util.tree_structure(expected)
    leaves = zip(jax.tree_util.tree_leaves(found), jax.tree_util.tree_leaves(expected), strict=True)
    for got, wanted in leaves:
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("learn_labels", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_is_bitwise(tmp_path: pathlib.Path, learn_labels: bool, dtype: str) -> None:
    sent = state(60, learn_labels, dtype)
    assert len(jax.tree_util.tree_leaves(sent.optimiser)) == (5 if learn_labels else 3)
    save(tmp_path, Checkpoint(60, sent, COUNTERS), CONFIG, keep=False)
    found = newest(tmp_path, template(learn_labels, dtype))
    assert found is not None
    assert found.step == 60
    assert found.counters == COUNTERS
    check_same_state(found.state, sent)


def test_nan_infinity_and_signed_zero_keep_their_bits(tmp_path: pathlib.Path) -> None:
    sent = state(0)._replace(labels=np.array([[np.nan, -0.0], [np.inf, 5e-324]] * 2))
    save(tmp_path, Checkpoint(0, sent, Counters()), CONFIG, keep=False)
    found = newest(tmp_path, template())
    assert found is not None
    check_same_state(found.state, sent)


def test_without_checkpoints_there_is_none(tmp_path: pathlib.Path) -> None:
    assert newest(tmp_path, template()) is None


def test_the_newest_is_the_one_of_the_highest_step(tmp_path: pathlib.Path) -> None:
    for step in (54, 6, 1000, 112):
        write(tmp_path, step)
    check_newest(tmp_path, 1000)


def test_steps_of_seven_digits_are_newer_than_those_of_six(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 999_500)
    write(tmp_path, 1_000_000)
    check_newest(tmp_path, 1_000_000)


@pytest.fixture
def warnings_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The records of absl, which do not reach the root logger in every process."""
    logger = logging.getLogger("absl")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


DAMAGE = {
    "state cut": lambda path: cut(path / "state.npz"),
    "state empty": lambda path: (path / "state.npz").write_bytes(b""),
    "state missing": lambda path: (path / "state.npz").unlink(),
    "state flipped": lambda path: flip(path / "state.npz"),
    "manifest cut": lambda path: cut(path / "manifest.json"),
    "manifest empty": lambda path: (path / "manifest.json").write_bytes(b""),
    "manifest missing": lambda path: (path / "manifest.json").unlink(),
    "manifest text": lambda path: (path / "manifest.json").write_text("no JSON"),
    "manifest bytes": lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe\x00"),
    "manifest list": lambda path: (path / "manifest.json").write_text("[]"),
    "manifest bare": lambda path: (path / "manifest.json").write_text("{}"),
    "manifest odd": lambda path: (path / "manifest.json").write_text('{"sha256": "x"}'),
    "manifest deep": lambda path: (path / "manifest.json").write_text("[" * 100_000),
    "manifest a folder": lambda path: (
        (path / "manifest.json").rename(path / "moved"),
        (path / "manifest.json").mkdir(),
    ),
    "manifest of another step": lambda path: edit(path, step=9),
    "manifest with a flipped step": lambda path: reword(path, '"step": 8', '"step": 9'),
    "manifest with a flipped key": lambda path: reword(path, '"step"', '"stfp"'),
    "manifest with flipped counters": lambda path: reword(path, "12.345", "92.345"),
    "manifest with another step and its checksum": lambda path: edit(path, sealed, step=9),
    "folder of another step": lambda path: path.rename(path.with_name("step-000009")),
    "folder, manifest and checksum of another step": lambda path: edit(
        path.rename(path.with_name("step-000009")), sealed, step=9
    ),
    "counters odd": lambda path: edit(path, sealed, counters={"seconds": "long"}),
}


def edit(path: pathlib.Path, seal: Any = dict, **changes: object) -> None:
    """Changes values in a manifest; without `seal` it keeps the checksum that it had."""
    manifest = json.loads((path / "manifest.json").read_text())
    checksum = {} if seal is sealed else {"checksum": manifest["checksum"]}
    del manifest["checksum"]
    (path / "manifest.json").write_text(json.dumps({**seal({**manifest, **changes}), **checksum}))


def reword(path: pathlib.Path, old: str, new: str) -> None:
    text = (path / "manifest.json").read_text()
    assert old in text
    (path / "manifest.json").write_text(text.replace(old, new, 1))


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: pathlib.Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_with_a_warning(
    tmp_path: pathlib.Path, warnings_logged: pytest.LogCaptureFixture, damage: str
) -> None:
    write(tmp_path, 6)
    DAMAGE[damage](write(tmp_path, 8))
    check_newest(tmp_path, 6)
    (record,) = warnings_logged.records[:1]
    assert record.levelno == logging.WARNING
    assert any(name in record.getMessage() for name in ("step-000008", "step-000009"))
    assert "is damaged and skipped" in record.getMessage()


@pytest.mark.parametrize("damage", DAMAGE)
def test_saving_continues_beside_a_damaged_checkpoint(tmp_path: pathlib.Path, damage: str) -> None:
    DAMAGE[damage](write(tmp_path, 8))
    write(tmp_path, 12)
    check_newest(tmp_path, 12)


def test_a_checkpoint_of_an_earlier_version_has_no_checksum(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, 6) / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest.pop("checksum")
    path.write_text(json.dumps(manifest))
    check_newest(tmp_path, 6)


def test_damaged_checkpoints_alone_count_as_none(tmp_path: pathlib.Path) -> None:
    cut(write(tmp_path, 6) / "state.npz")
    assert newest(tmp_path, template()) is None


def test_leftover_temporary_folders_are_removed(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 6)
    leftover = tmp_path / ".step-000008.4711.tmp"
    leftover.mkdir()
    (leftover / "state.npz").write_bytes(b"half of a st")
    check_newest(tmp_path, 6)
    assert os.listdir(tmp_path) == ["step-000006"]


def test_saving_leaves_no_temporary_file(tmp_path: pathlib.Path) -> None:
    folder = write(tmp_path, 6)
    assert os.listdir(tmp_path) == ["step-000006"]
    assert sorted(os.listdir(folder)) == ["manifest.json", "state.npz"]


def test_a_save_that_fails_leaves_the_earlier_checkpoint(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 6)

    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_object", full)
        with pytest.raises(OSError, match="no space"):
            write(tmp_path, 6)
    check_newest(tmp_path, 6)


@pytest.mark.parametrize("whole", [True, False])
def test_saving_over_an_existing_step_replaces_it(tmp_path: pathlib.Path, whole: bool) -> None:
    save(tmp_path, Checkpoint(6, state(99), Counters()), CONFIG, keep=False)
    if not whole:
        cut(tmp_path / "step-000006" / "state.npz")
    write(tmp_path, 6)
    check_newest(tmp_path, 6)


def test_named_checkpoints_and_the_newest_two_others_are_kept(tmp_path: pathlib.Path) -> None:
    for step in (0, 1, 3, 5, 6, 7, 9, 10, 12, 13):
        write(tmp_path, step)
    kept = sorted(int(name.removeprefix("step-")) for name in os.listdir(tmp_path))
    assert kept == [0, 1, 6, 10, 12, 13]


def test_a_checkpoint_to_keep_is_kept_permanently(tmp_path: pathlib.Path) -> None:
    write(tmp_path, 3, keep=True)
    for step in (5, 7, 9, 10):
        write(tmp_path, step)
    kept = sorted(int(name.removeprefix("step-")) for name in os.listdir(tmp_path))
    assert kept == [3, 9, 10]


def test_the_named_steps() -> None:
    first = [0, 1, 2, 4, 6, 8, 12, 18, 26, 37, 54, 78, 112, 162, 233, 335, 483, 695, 1000]
    named = [step for step in range(3001) if is_named(step)]
    assert named == [*first, 1500, 2000, 2500, 3000]
    assert is_named(50_000)
    assert not is_named(50_001)


def test_what_a_run_would_go_back_to_is_kept(tmp_path: pathlib.Path) -> None:
    """Worker b came at step 23, and nobody has confirmed its answers."""
    for step in range(20, 41, 2):
        first = [[0, ["a"]], *([[23, ["b"]], [27, ["a", "b"]]] if step > 23 else [])]
        record = {"used": 9, "confirmed": 3, "first": first, "liars": {}}
        save(tmp_path, Checkpoint(step, state(step), COUNTERS, record), CONFIG, keep=False)
    assert checkpoint.steps_in(tmp_path) == [22, 38, 40]
    found = newest(tmp_path, template())
    assert found is not None
    assert found.confirmations == record


def test_without_confirmations_nothing_older_is_kept(tmp_path: pathlib.Path) -> None:
    for step in range(20, 41, 2):
        write(tmp_path, step, keep=False)
    assert checkpoint.steps_in(tmp_path) == [38, 40]
