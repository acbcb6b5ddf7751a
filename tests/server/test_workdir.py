"""Whether a run may resume in a folder, and the records kept there."""

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from kipper.common.errors import UserError
from kipper.common.sealed import parse_object
from kipper.common.settings import DistillSettings, RunSettings, SolveLabelsSettings, run_fields
from kipper.server.checkpoint import Checkpoint, save
from kipper.server.kip import initial_state
from kipper.server.records import Config, Counters
from kipper.server.report.page import CAPTIONS
from kipper.server.workdir import FIGURES, Workdir

HASH = "0" * 64

# Another valid value for every setting that a resumed run must not change.
OTHER_VALUES: dict[str, Any] = {
    "dataset": "mnist5k",
    "preprocess": "zca",
    "architecture": "fc2",
    "kernel": "nngp",
    "support_size": 20,
    "ridge": 1e-5,
    "seed": 1,
    "engine": "neural_tangents",
    "kernel_dtype": "float64",
    "block_support": 5,
    "block_target": 100,
    "train_limit": 1000,
    "test_limit": 100,
    "initial": "distilled.npz",
    "support_init": "noise",
    "freeze_pixels": 0.5,
    "sample_architectures": "convnet",
    "augment": "flip",
    "learn_labels": True,
    "solve_labels_every": 5,
    "target_batch_size": 100,
    "loss": "cross_entropy",
    "average": 0.9,
    "optimiser": "soap",
    "learning_rate": 0.1,
    "label_learning_rate": 0.1,
    "schedule": "cosine",
    "schedule_steps": 100,
    "schedule_end": 0.1,
    "eval_every": 5,
}
FREE_VALUES: dict[str, Any] = {
    "workdir": "elsewhere",
    "data_dir": "data",
    "launch": "ray",
    "ray_address": "auto",
    "ray_device": "cpu",
    "num_workers": 7,
    "threads": 3,
    "port": 8470,
    "host": "head",
    "transport": "grpc_tls",
    "certificates": "certificates",
    "allow_open_network": True,
    "verify_fraction": 1.0,
    "chaos": "drop:0.1",
    "mixed_numerics": True,
    "dashboard": "none",
    "dashboard_open": True,
    "log_format": "json",
    "overwrite": False,
    "steps": 5000,
    "stop": "plateau",
    "patience": 50,
    "recipe": "paper",  # another would change the settings that it stands for
}


def distill(**changes: Any) -> DistillSettings:
    return RunSettings.of(DistillSettings, **{"workdir": "run", "dataset": "digits", **changes})


def refused(workdir: Workdir, settings: RunSettings, data_hash: str = HASH) -> str:
    """Checks that the run is refused in one sentence, and returns it."""
    with pytest.raises(UserError) as caught:
        workdir.prepare(settings, data_hash)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(workdir.path) in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> Workdir:
    """A folder that holds a run of `distill()`."""
    made = Workdir(tmp_path / "deep" / "run")
    made.prepare(distill(), HASH)
    return made


def fill(workdir: Workdir) -> None:
    """Writes every file of a finished run."""
    workdir.tensorboard.mkdir(exist_ok=True)
    for file in (
        workdir.metrics,
        workdir.spectrum,
        workdir.validation,
        workdir.result,
        workdir.status,
        workdir.distilled,
        workdir.best,
        workdir.preprocessing,
        workdir.natural,
        workdir.neighbours,
        workdir.environment,
        workdir.report,
        workdir.figures / "distilled.png",
        workdir.logs / "run.log",
        workdir.tensorboard / "events.out.tfevents.1.host",
        workdir.checkpoints / "step-000000",
    ):
        file.write_text("earlier")


def test_a_new_folder_is_made_with_its_configuration(workdir: Workdir) -> None:
    for folder in (workdir.checkpoints, workdir.figures, workdir.logs):
        assert folder.is_dir()
    config = json.loads(workdir.config.read_text())
    assert config["command"] == "DistillSettings"
    assert config["settings"] == distill().record()
    assert config["data_hash"] == HASH


def test_a_checkpoint_of_another_run_is_refused_by_name(
    workdir: Workdir, tmp_path: pathlib.Path
) -> None:
    other = Workdir(tmp_path / "other")
    state = initial_state(np.zeros((10, 8, 8, 1), np.float32), np.zeros((10, 10)), False)
    for config, why in (
        (Config("DistillSettings", distill(seed=7).record(), HASH), "seed was 7 and is 0"),
        (Config("DistillSettings", distill().record(), "1" * 64), "on other data"),
    ):
        point = Checkpoint(0, state, Counters())
        other.checkpoints.mkdir(parents=True)
        save(other.checkpoints, point, config.record(), keep=True)
        copied = workdir.checkpoints / "step-000000"
        shutil.copytree(other.checkpoints / "step-000000", copied, dirs_exist_ok=True)
        sentence = refused(workdir, distill())
        assert f"step-000000 is a checkpoint of another run ({why})" in sentence
        shutil.rmtree(other.path)
    own = Config("DistillSettings", distill(steps=7).record(), HASH)  # which may change
    shutil.rmtree(copied)
    save(workdir.checkpoints, Checkpoint(0, state, Counters()), own.record(), keep=True)
    workdir.prepare(distill(), HASH)


def test_fewer_steps_than_were_made_are_refused(workdir: Workdir) -> None:
    state = initial_state(np.zeros((10, 8, 8, 1), np.float32), np.zeros((10, 10)), False)
    for step in (4, 6):
        point = Checkpoint(step, state, Counters())
        config = Config("DistillSettings", distill(steps=6).record(), HASH)
        save(workdir.checkpoints, point, config.record(), keep=True)
    assert "has made 6 steps already; give --steps=6 or more" in refused(workdir, distill(steps=4))
    workdir.prepare(distill(steps=6), HASH)
    (workdir.checkpoints / "step-000006" / "state.npz").write_text("damaged")
    workdir.prepare(distill(steps=4), HASH)  # the newest that is intact


def test_every_setting_is_either_free_or_not() -> None:
    names = {field.name for field in run_fields(DistillSettings)}
    assert names == OTHER_VALUES.keys() | FREE_VALUES.keys()


def test_the_same_run_may_be_resumed(workdir: Workdir) -> None:
    fill(workdir)
    workdir.prepare(distill(), HASH)
    assert workdir.metrics.read_text() == "earlier"


@pytest.mark.parametrize("name", FREE_VALUES)
def test_a_run_may_be_resumed_with_free_settings_changed(workdir: Workdir, name: str) -> None:
    fill(workdir)
    settings = distill(**{name: FREE_VALUES[name]})
    workdir.prepare(settings, HASH)
    assert workdir.metrics.read_text() == "earlier"
    assert json.loads(workdir.config.read_text())["settings"] == settings.record()


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_any_other_changed_setting_is_refused_by_name(workdir: Workdir, name: str) -> None:
    before = workdir.config.read_bytes()
    value, default = OTHER_VALUES[name], getattr(distill().compute, name)
    sentence = refused(workdir, distill(**{name: value}))
    assert f"{name} was {default!r} and is {value!r}" in sentence
    assert "--overwrite" in sentence
    assert workdir.config.read_bytes() == before


def test_several_changed_settings_are_all_named(workdir: Workdir) -> None:
    sentence = refused(workdir, distill(seed=5, ridge=0.5, num_workers=3))
    assert "seed" in sentence
    assert "ridge" in sentence
    assert "num_workers" not in sentence


def test_a_setting_that_was_not_recorded_had_its_default(workdir: Workdir) -> None:
    config = json.loads(workdir.config.read_text())
    for younger in ("schedule", "freeze_pixels"):
        del config["settings"][younger]
    workdir.config.write_text(json.dumps(config))
    sentence = refused(workdir, distill(schedule="cosine", schedule_steps=9))
    assert "schedule was 'constant' and is 'cosine'" in sentence
    workdir.prepare(distill(), HASH)


def test_another_command_is_refused(workdir: Workdir) -> None:
    settings = RunSettings.of(SolveLabelsSettings, workdir="run", dataset="digits")
    sentence = refused(workdir, settings)
    assert "command was 'distill' and is 'solve_labels'" in sentence


def test_other_data_are_refused(workdir: Workdir) -> None:
    sentence = refused(workdir, distill(), "1" * 64)
    assert "'digits'" in sentence
    assert "data" in sentence


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"command": "Dist',
        b"[]",
        b"null",
        b"{}",
        b'{"command": 3, "settings": 4}',
        b'{"settings": {}}',
        b"\xff\xfe\x00",
    ],
)
def test_a_garbled_configuration_is_refused(workdir: Workdir, content: bytes) -> None:
    workdir.config.write_bytes(content)
    sentence = refused(workdir, distill())
    assert "config.json" in sentence
    assert "--overwrite" in sentence
    assert workdir.config.read_bytes() == content
    workdir.prepare(distill(overwrite=True), HASH)
    assert json.loads(workdir.config.read_text())["data_hash"] == HASH


def test_checkpoints_without_a_configuration_are_refused(workdir: Workdir) -> None:
    fill(workdir)
    workdir.config.unlink()
    assert "no config.json" in refused(workdir, distill())


def test_without_a_configuration_nothing_is_overwritten(workdir: Workdir) -> None:
    fill(workdir)
    workdir.config.unlink()
    before = sorted(workdir.path.rglob("*"))
    assert "no config.json" in refused(workdir, distill(overwrite=True))
    assert sorted(workdir.path.rglob("*")) == before


def test_overwriting_removes_kippers_files_and_no_others(workdir: Workdir) -> None:
    fill(workdir)
    stranger = workdir.path / "notes.txt"
    stranger.write_text("mine")
    workdir.prepare(distill(seed=9, overwrite=True), "1" * 64)
    assert stranger.read_text() == "mine"
    left = {path.name for path in workdir.path.rglob("*")}
    assert left == {"notes.txt", "config.json", ".lock", "checkpoints", "figures", "logs"}
    assert json.loads(workdir.config.read_text())["settings"]["seed"] == 9


HOLD_LOCK = """
import sys
from kipper.server.workdir import Workdir
with Workdir(sys.argv[1]).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_locked_by_another_process_is_refused(workdir: Workdir) -> None:
    fill(workdir)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(workdir.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="Another kipper process"), workdir.locked():
            pass
        assert "Another kipper process" in refused(workdir, distill(overwrite=True))
        assert workdir.metrics.read_text() == "earlier"
        other.kill()
    with workdir.locked():  # released although the other process was killed
        pass


def test_a_lock_can_be_taken_again_once_released(workdir: Workdir) -> None:
    with pytest.raises(RuntimeError), workdir.locked():
        raise RuntimeError
    with workdir.locked():
        pass


@pytest.mark.parametrize("place", ["run", "run/deeper", "run/checkpoints"])
def test_a_file_where_the_folder_should_be_is_refused(tmp_path: pathlib.Path, place: str) -> None:
    blocked = place.endswith("checkpoints")
    path = tmp_path / (place if blocked else "run")
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file")
    workdir = Workdir(tmp_path / ("run" if blocked else place))
    assert "--workdir" in refused(workdir, distill())
    assert path.read_text() == "a file"


def test_records_come_back_in_order(workdir: Workdir) -> None:
    records = [{"step": step, "loss": 0.5**step} for step in range(3)]
    assert workdir.read_records(workdir.metrics) == []
    for record in records:
        workdir.append_record(workdir.metrics, record)
    assert workdir.read_records(workdir.metrics) == records


def test_the_other_lines_survive_every_way_to_cut_the_last(workdir: Workdir) -> None:
    records = [{"step": step, "loss": 0.5} for step in range(3)]
    for record in records:
        workdir.append_record(workdir.metrics, record)
    whole = workdir.metrics.read_text()
    last = whole.splitlines()[-1]
    for kept in range(len(last)):
        workdir.metrics.write_text(whole[: len(whole) - len(last) - 1 + kept])
        assert workdir.read_records(workdir.metrics) == records[:2]


def test_a_record_added_after_a_cut_line_is_not_lost(workdir: Workdir) -> None:
    workdir.metrics.write_text('{"step": 0}\n{"step": 1, "lo')
    workdir.append_record(workdir.metrics, {"step": 2})
    assert workdir.read_records(workdir.metrics) == [{"step": 0}, {"step": 2}]


def test_records_of_a_step_and_later_are_dropped(workdir: Workdir) -> None:
    for step in (0, 1, 4, 6):
        workdir.append_record(workdir.metrics, {"step": step})
    with open(workdir.metrics, "a") as file:
        file.write('{"step": 8, "lo')
    workdir.drop_records_from(workdir.metrics, 4)
    lines = workdir.metrics.read_text().splitlines()
    assert [parse_object(line) for line in lines] == [{"step": 0}, {"step": 1}]
    assert workdir.metrics.with_name("metrics.jsonl.damaged").read_text() == '{"step": 8, "lo\n'
    workdir.append_record(workdir.metrics, {"step": 4})
    assert [r["step"] for r in workdir.read_records(workdir.metrics)] == [0, 1, 4]
    workdir.drop_records_from(workdir.metrics, 0)
    assert workdir.read_records(workdir.metrics) == []


def test_dropping_records_does_not_create_the_file(workdir: Workdir) -> None:
    workdir.drop_records_from(workdir.metrics, 0)
    assert not workdir.metrics.exists()


def test_overwriting_leaves_and_names_what_is_not_kippers(
    workdir: Workdir, warnings: list[str]
) -> None:
    fill(workdir)
    theirs = [
        workdir.figures / "thesis.pdf",
        workdir.checkpoints / "model.pt",
        workdir.checkpoints / "step-000004" / "notes.txt",
        workdir.logs / "lab" / "book.txt",
        workdir.tensorboard / "mine",
        workdir.path / "photos" / "distilled.npz",
    ]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (workdir.checkpoints / "step-000004" / "state.npz").write_text("earlier")
    workdir.prepare(distill(seed=9, overwrite=True), HASH)
    assert all(path.read_text() == "mine" for path in theirs)
    files = {path for path in workdir.path.rglob("*") if path.is_file()}
    assert files == {*theirs, workdir.config, workdir.path / ".lock"}
    (sentence,) = warnings
    assert "--overwrite left " in sentence
    assert "figures/thesis.pdf" in sentence
    assert "and 1 more in" in sentence


@pytest.mark.parametrize("content", ['{"model": "resnet"}', '{"command": "x", "settings": {}}'])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_another_program_is_left_alone(
    tmp_path: pathlib.Path, content: str, overwrite: bool
) -> None:
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000100").write_text("a model")
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    assert "--workdir" in refused(Workdir(tmp_path), distill(overwrite=overwrite))
    assert before.items() <= {p: p.is_file() and p.read_text() for p in tmp_path.rglob("*")}.items()


@pytest.mark.parametrize("name", ["distilled.npz", "report.html", "figures/curve.png"])
def test_files_of_the_names_of_a_runs_are_not_written_over(
    tmp_path: pathlib.Path, name: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert name in refused(Workdir(tmp_path), distill())
    assert path.read_text() == "mine"


LINKS = ("config.json", "metrics.jsonl", "checkpoints", "figures", "logs", "tensorboard", ".lock")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [*LINKS, "logs/run.log", "figures/curve.png"])
def test_links_in_a_workdir_are_refused(
    workdir: Workdir, tmp_path: pathlib.Path, name: str, overwrite: bool
) -> None:
    fill(workdir)
    target, place = tmp_path / "theirs", workdir.path / name
    if place.is_dir():
        shutil.move(place, target)
    else:
        target.write_text("mine")
        place.unlink(missing_ok=True)
    place.symlink_to(target)
    before = target.read_text() if target.is_file() else sorted(target.iterdir())
    sentence = refused(workdir, distill(overwrite=overwrite))
    assert f"{place} is a symbolic link" in sentence
    assert before == (target.read_text() if target.is_file() else sorted(target.iterdir()))


def test_the_workdir_itself_may_be_a_link(workdir: Workdir, tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to(workdir.path)
    linked = Workdir(tmp_path / "link")
    linked.prepare(distill(), HASH)
    linked.append_record(linked.metrics, {"step": 0})
    assert workdir.read_records(workdir.metrics) == [{"step": 0}]


def test_every_figure_is_listed_among_what_a_run_writes() -> None:
    assert set(CAPTIONS) == set(FIGURES)
