"""The command line: help, results, and error messages."""

import importlib.util
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from event_curves import accumulated, curve, curves_agree_with_records
from PIL import Image

from kipper.launch.commands import pace
from kipper.launch.main import run
from kipper.server.workdir import Workdir

DIGITS = ["--dataset=digits", "--steps=4", "--target_batch_size=200", "--test_limit=100"]


def _distill(workdir, *flags):
    return run(["distill", f"--workdir={workdir}", *DIGITS, *flags])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    assert _distill(workdir, "--learn_labels") == 0
    return workdir


def test_a_run_leaves_the_files_that_are_promised(finished):
    for name in (
        "config.json",
        "metrics.jsonl",
        "spectrum.jsonl",
        "result.json",
        "distilled.npz",
        "preprocessing.npz",
        "checkpoints/step-000000",
        "checkpoints/step-000004",
        "figures/distilled.png",
        "logs/run.log",
        "validation.jsonl",
        "best.npz",
    ):
        assert (finished / name).exists(), name
    records = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2, 4]
    conditions = {"condition_number", "regularised_condition_number"}
    accuracies = {"train_accuracy", "test_accuracy"}
    assert set(records[0]) == {"step", "loss", "seconds", "checksum"} | accuracies | conditions
    result = json.loads((finished / "result.json").read_text())
    assert result["natural_accuracy"] == records[0]["test_accuracy"]
    assert result["test_accuracy"] == records[-1]["test_accuracy"]
    assert result["steps"] == 4
    # 10x10 and 200x10 a step for 5 losses, 10x10 and 100x10 an evaluation, and validation.
    assert result["kernel_pairs"] == 5 * 2100 + 4 * 1100 + 4 * (100 + 10 * 143)
    assert result["pairs_per_second"] == round(result["kernel_pairs"] / result["seconds"])
    with np.load(finished / "distilled.npz") as arrays:
        assert set(arrays) == {"images", "labels"}
        assert arrays["images"].shape == (10, 8, 8, 1)
        assert arrays["labels"].shape == (10, 10)


def test_tensorboard_shows_what_the_records_say(finished):
    assert curves_agree_with_records(finished)
    found = accumulated(finished / "tensorboard")
    assert [image.step for image in found.Images("distilled")] == [0, 1, 2, 4]
    picture = Image.open(io.BytesIO(found.Images("distilled")[-1].encoded_image_string))
    assert len(np.unique(np.asarray(picture))) > 50
    assert curve(found, "learning_rate/images") == [(s, np.float32(0.04)) for s in (0, 1, 2, 4)]


def test_evaluate_reproduces_the_recorded_accuracy_from_the_two_files(finished, tmp_path, capsys):
    for name in ("distilled.npz", "preprocessing.npz"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    assert run(["evaluate", f"--distilled={tmp_path / 'distilled.npz'}"]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    result = json.loads((finished / "result.json").read_text())
    assert evaluation["test_accuracy"] == result["test_accuracy"]
    assert evaluation["recorded_test_accuracy"] == result["test_accuracy"]


def test_evaluate_takes_a_file_without_a_recipe_if_flags_give_one(finished, tmp_path, capsys):
    alone = tmp_path / "alone.npz"
    alone.write_bytes((finished / "distilled.npz").read_bytes())
    assert run(["evaluate", f"--distilled={alone}"]) == 2
    assert "give --dataset, --preprocess, --architecture" in capsys.readouterr().err
    told = ["--dataset=digits", "--preprocess=standard", "--architecture=fc1"]
    assert run(["evaluate", f"--distilled={alone}", *told]) == 0
    assert json.loads(capsys.readouterr().out)["test_accuracy"] > 0.5


def test_the_same_command_again_gives_the_same_files(finished, capsys):
    before = (finished / "distilled.npz").read_bytes()
    assert _distill(finished, "--learn_labels") == 0
    assert (finished / "distilled.npz").read_bytes() == before


def test_a_finished_run_that_is_asked_for_again_computes_nothing(finished, capsys):
    files = {path: path.stat().st_mtime_ns for path in finished.rglob("[!.]*") if path.is_file()}
    assert _distill(finished, "--learn_labels") == 0
    said = capsys.readouterr().out
    assert f"The run in {finished} is finished already; nothing was computed." in said
    assert "(distilled)" in said
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert _distill(finished, "--learn_labels", "--steps=3") == 2
    assert "has made 4 steps already; give --steps=4 or more" in capsys.readouterr().err


def test_a_run_in_a_folder_that_another_works_in_is_refused_before_it_shows_anything(
    finished, capsys
):
    with Workdir(finished).locked():
        assert _distill(finished, "--learn_labels", "--steps=9") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "is working in" in said.err


def test_commands_and_flags_may_have_hyphens_and_nearly_right_names_a_suggestion(capsys):
    assert run(["solve-labels", "--dataset=digit", "--workdir=w"]) == 2
    assert "did you mean digits?" in capsys.readouterr().err
    assert run(["distil", "--workdir=w"]) == 2
    assert "Did you mean kipper distill?" in capsys.readouterr().err


def test_a_finished_run_continues_with_more_steps(tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    assert _distill(short) == 0
    assert _distill(short, "--steps=7") == 0
    assert _distill(long, "--steps=7") == 0
    assert (short / "distilled.npz").read_bytes() == (long / "distilled.npz").read_bytes()


@pytest.mark.parametrize("convention", ["paper", "notebook"])
def test_solve_labels_improves_on_natural_labels(tmp_path, capsys, convention):
    flags = ["--dataset=digits", "--support_size=20", f"--label_ridge={convention}"]
    assert run(["solve_labels", f"--workdir={tmp_path}", *flags]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["test_accuracy"] > result["natural_accuracy"] + 0.02
    assert "(distilled)" in capsys.readouterr().out
    (record,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    (spectrum,) = map(json.loads, (tmp_path / "spectrum.jsonl").read_text().splitlines())
    eigenvalues = spectrum["eigenvalues"]
    assert len(eigenvalues) == 20
    assert record["condition_number"] == pytest.approx(eigenvalues[0] / eigenvalues[-1])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--dataset=emnist"], "emnist"),
        (["--dataset=mnist"], "data_dir"),
        (["--dataset=mnist", "--data_dir=/nonexistent"], "/nonexistent"),
        (["--dataset=npz:missing.npz"], "missing.npz"),
        (["--support_size=13"], "--support_size is 13; it must be a multiple of the 10 classes."),
        (["--support_size=5000"], "fewer training images"),
        (["--architecture=resnet"], "Unknown architecture 'resnet'; known are fcK, convnet"),
        (["--architecture=myrtle5", "--test_limit=0"], "0"),
        (["--block_support=0"], "--block_support is 0; it must be 1 or more."),
        (["--kernel=rbf"], "rbf"),
        (["--learning_rate=-1"], "--learning_rate is -1.0"),
        (["--ridge=nan"], "--ridge is nan"),
        (["--steps=many"], "many"),
        (["--colour=red"], "Unknown flag --colour; see kipper distill --help."),
        (["--stepz=1"], "Unknown flag --stepz (did you mean --steps?); see"),
        (["--architecture=convnt"], "Did you mean convnet?"),
        (["stray"], "Unexpected argument 'stray'"),
        (["--workdir="], "--workdir is required."),
        (["--workdir=/proc/kipper"], "cannot be written"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_status_2(tmp_path, capsys, flags, sentence):
    assert _distill(tmp_path / "run", *flags) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("kipper: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "run" / "result.json").exists()


def test_images_too_small_for_the_pools_are_refused(tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    np.savez(
        tmp_path / "tiny.npz",
        x_train=rng.random((40, 6, 6)),
        y_train=labels,
        x_test=rng.random((40, 6, 6)),
        y_test=labels,
    )
    flags = [f"--dataset=npz:{tmp_path / 'tiny.npz'}", "--architecture=convnet"]
    assert _distill(tmp_path / "run", *flags) == 2
    assert "6x6 pixels are too small for 'convnet'" in capsys.readouterr().err


@pytest.mark.parametrize("launch", ["local_mp", "local_mt"])
def test_a_launch_without_launchpad_is_refused_before_anything_is_written(
    tmp_path, capsys, monkeypatch, launch
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "launchpad" else find_spec(name, *rest),
    )
    assert _distill(tmp_path / "run", f"--launch={launch}") == 2
    error = capsys.readouterr().err
    assert f"--launch={launch} needs Launchpad" in error
    assert "or give --launch=inprocess." in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_engine_that_does_not_suit_is_refused_before_anything_is_written(tmp_path, capsys):
    flags = ["--engine=banded_xla", "--architecture=fc1"]
    assert _distill(tmp_path / "run", *flags) == 2
    assert "convolutional ReLU networks only, not 'fc1'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_changed_setting_is_refused_by_name_and_overwrite_starts_afresh(finished, capsys):
    assert _distill(finished, "--learn_labels", "--learning_rate=0.1") == 2
    assert "learning_rate was 0.04 and is 0.1" in capsys.readouterr().err
    assert (finished / "result.json").exists()


def test_a_run_that_diverges_says_so_and_exits_with_1(tmp_path, capsys):
    assert _distill(tmp_path, "--learning_rate=1e30", "--steps=6") == 1
    error = capsys.readouterr().err
    assert "diverged" in error
    assert "Traceback" not in error


def test_a_flagfile_is_read(tmp_path):
    flagfile = tmp_path / "flags"
    flagfile.write_text("\n".join([f"--workdir={tmp_path / 'run'}", *DIGITS]))
    assert run(["distill", f"--flagfile={flagfile}"]) == 0
    assert (tmp_path / "run" / "result.json").exists()


def test_unknown_command_and_no_command(capsys):
    assert run(["distil"]) == 2
    assert "Unknown command 'distil'; known are distill, solve_labels, worker, " in (
        capsys.readouterr().err
    )
    assert run([]) == 2
    assert run(["--help"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["distill", "--help"], ["evaluate", "--help"], ["launch", "--help"]],
)
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys; from kipper.launch.main import run; "
        f"assert run({arguments!r}) == 0; "
        "heavy = {'jax', 'tensorflow', 'reverb', 'launchpad', 'matplotlib', 'scipy', 'sklearn'}; "
        "found = heavy & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_the_folder_of_a_run_stands_for_its_set_and_its_log(finished, tmp_path, capsys):
    output = str(tmp_path / "set.safetensors")
    assert run(["export", str(finished), "--to=safetensors", f"--output={output}"]) == 0
    assert run(["replay", str(finished)]) == 0
    assert "logs/events.jsonl" in capsys.readouterr().out
    assert run(["evaluate", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["agrees_with_record"] is True


def test_evaluate_prints_a_table_on_a_terminal(finished, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run(["evaluate", str(finished)]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["agrees with record"].strip() == "yes"
    assert lines["support size"].strip() == "10"


@pytest.mark.parametrize(
    ("arguments", "then"),
    [
        (["report", "runs/mine"], "starts afresh"),
        (["distill", "--workdir=w", *DIGITS], "resumes the run"),
    ],
)
def test_an_interrupted_command_says_what_giving_it_again_does(
    capsys, tmp_path, monkeypatch, arguments, then
):
    def interrupted(*settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("kipper.launch.commands.report.print_report", interrupted)
    monkeypatch.setattr("kipper.launch.commands.run.run_with_display", interrupted)
    assert run([*arguments]) == 130
    assert capsys.readouterr().err == f"kipper: Interrupted; the same command {then}.\n"


def test_comparisons_and_states_can_be_had_as_json(finished, tmp_path, capsys):
    figure = str(tmp_path / "compare.png")
    assert run(["compare", str(finished), f"--output={figure}", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["figure"] == figure
    assert run(["status", str(finished), "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert run(["list", str(finished.parent), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [state]
    assert (state["state"], state["step"], state["support_size"]) == ("finished", 4, 10)
    assert compared["runs"][0]["test_accuracy"] == state["test_accuracy"]


def test_an_estimate_needs_no_workdir_and_says_that_it_measures(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)
    assert run(["distill", *DIGITS, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "steps" in said.out
    assert "Measuring a step" in said.err
    assert not list(tmp_path.iterdir())
    assert run(["distill", *DIGITS]) == 2
    assert "--workdir is required" in capsys.readouterr().err


def test_help_begins_with_an_example_and_what_is_required(capsys):
    assert run(["distill", "--help"]) == 0
    said = capsys.readouterr().out
    places = [said.index(word) for word in ("kipper distill --dataset=", "Required:", "--seed [0]")]
    assert places == sorted(places)
    assert "--workdir [required]" in said
    assert said.count("--seed [0]") == 1
    assert max(map(len, said.splitlines())) <= 100
