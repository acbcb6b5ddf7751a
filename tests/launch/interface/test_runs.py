"""Runs from Python: in the background, seen, stopped, and in a temporary folder."""

import contextlib
import gc
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
from installation import needs_launchpad
from sklearn.datasets import load_digits

import kipper
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.interface.by_command import run_by_command
from kipper.launch.interface.given import given_data
from kipper.launch.interface.progress import said_lines
from kipper.launch.processes.stopping import StopRequest
from kipper.server.report.run_files import read_run
from kipper.server.report.writing import again
from kipper.server.workdir import Workdir

SMALL = {"train_limit": 100, "test_limit": 50, "dashboard": "none", "verbose": False}
LONG = {**SMALL, "steps": 100_000}


@pytest.fixture
def arrays():
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    return images[:100], digits.target[:100], images[100:150], digits.target[100:150]


def test_a_run_goes_on_in_the_background(tmp_path):
    run = kipper.start("digits", workdir=tmp_path / "run", steps=3, **SMALL)
    assert run.progress.state in ("starting", "running", "finished")
    result = run.wait()
    assert run.done
    assert run.progress.state == "finished"
    assert run.progress.step == run.progress.steps == 3
    assert run.progress.share == 1
    assert run.progress.test_accuracy == result.test_accuracy
    assert run.wait() is result
    assert str(tmp_path) in repr(run)


def test_a_run_is_stopped_and_resumed(tmp_path):
    evaluated = threading.Event()

    def callback(step, metrics):
        assert metrics["loss"] > 0
        if step == 2:
            evaluated.set()

    run = kipper.start("digits", workdir=tmp_path, callback=callback, **LONG)
    with pytest.raises(TimeoutError, match=r"has not ended after 0\.01 s"):
        run.wait(0.01)
    assert evaluated.wait(60)
    run.stop()
    stopped = run.wait()
    assert run.progress.state == "interrupted"
    assert stopped.test_accuracy is not None
    assert stopped.evaluate().agrees_with_record
    assert kipper.load(tmp_path).step >= stopped.step
    steps = Workdir(tmp_path).evaluations()[-1].step
    again = kipper.distill("digits", workdir=tmp_path, **{**LONG, "steps": 2 * steps + 20})
    assert again.step == 2 * steps + 20


def test_a_callback_stops_the_run_at_its_step(arrays):
    seen = []

    def callback(step, metrics):
        seen.append((step, metrics["test_accuracy"]))
        return step >= 6

    result = kipper.distill(*arrays, callback=callback, **LONG)
    assert [step for step, _ in seen] == [0, 1, 2, 4, 6]
    assert result.step == 6
    assert result.test_accuracy == seen[-1][1]
    assert result.natural_accuracy == seen[0][1]
    assert result.evaluate().agrees_with_record


def test_an_error_of_the_callback_ends_the_run():
    def callback(step, metrics):
        raise LookupError(f"at step {step}")

    with pytest.raises(LookupError, match="at step 0"):
        kipper.distill("digits", callback=callback, **LONG)


@pytest.fixture
def heeds_ctrl_c():
    """SIGINT interrupts, also in the background of a shell, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_ends_a_sweep_and_the_run_resumes(tmp_path):
    """KeyboardInterrupt comes after the run has stopped, and `except Exception` does not see it."""

    def callback(step, metrics):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    swept = []

    def sweep():
        for seed in range(3):
            swept.append(seed)
            folder = tmp_path / str(seed)
            with contextlib.suppress(Exception):
                kipper.distill("digits", workdir=folder, seed=seed, callback=callback, **LONG)

    with pytest.raises(KeyboardInterrupt):
        sweep()
    assert swept == [0]
    found = kipper.load(tmp_path / "0")
    assert found.step >= 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_temporary_folder_goes_with_run_and_result(arrays):
    run = kipper.start(*arrays, steps=1, **SMALL)
    folder = run.workdir
    assert f"{folder} (temporary)" in str(run.progress)
    result = run.wait()
    assert f"{folder} (temporary)" in repr(result)
    del run
    gc.collect()
    assert folder.exists()
    del result
    gc.collect()
    assert not folder.exists()


def test_the_data_are_not_copied_to_disk(arrays):
    result = kipper.distill(*arrays, steps=1, **SMALL)
    sizes = [path.stat().st_size for path in result.workdir.rglob("*.npz")]
    assert max(sizes) < arrays[0].nbytes
    assert not list(result.workdir.rglob("dataset*"))


def test_given_arrays_are_known_by_their_content(arrays, tmp_path):
    settings = {**SMALL, "steps": 1, "workdir": tmp_path}
    first = kipper.distill(*arrays, **settings)
    again = kipper.distill(*(np.copy(array) for array in arrays), **settings)
    assert np.array_equal(first.images, again.images)
    arrays[0][0] += 1
    with pytest.raises(kipper.UserError, match=r"holds a run with other settings \(dataset was"):
        kipper.distill(*arrays, **settings)


def test_a_run_of_an_earlier_version_resumes_from_its_copy_of_the_data(arrays, tmp_path):
    """That version wrote the arrays to the workdir, and recorded the file as the data set."""
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(tmp_path / "dataset.npz", **dict(zip(names, arrays, strict=True)))
    name = f"npz:{tmp_path / 'dataset.npz'}"
    first = kipper.distill(name, workdir=tmp_path, steps=1, **SMALL)
    again = kipper.distill(*arrays, workdir=tmp_path, steps=2, **SMALL)
    assert first.step == 1
    assert again.step == 2


def test_the_report_names_what_a_recipe_does_not_stand_for(arrays):
    """A value of default that is not the recipe's was once left out."""
    settings = {**SMALL, "recipe": "fast", "learning_rate": 0.04}
    run = read_run(kipper.distill(*arrays, steps=1, **settings).workdir)
    assert "recipe='fast', steps=1, learning_rate=0.04)" in again(run).command
    assert "average" not in again(run).command


def test_progress_of_a_run_goes_to_stderr(arrays, capsys):
    kipper.distill(*arrays, **{**SMALL, "verbose": True}, steps=1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "step      1" in shown.err


def test_a_bar_on_a_terminal(arrays, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    settings = {**SMALL, "verbose": True, "dashboard": "127.0.0.1:0"}
    kipper.distill(*arrays, **settings, steps=1, callback=lambda *_: time.sleep(0.4))
    shown = capsys.readouterr().err
    assert "finished  step 1/1  loss " in shown
    assert "live page http://127.0.0.1:" in shown


def test_html_of_run_and_result_shows_the_images(arrays):
    run = kipper.start(*arrays, steps=1, **SMALL)
    result = run.wait()
    for shown in (run._repr_html_(), result._repr_html_()):
        assert '<img src="data:image/png;base64,' in shown
        assert len(shown) < 20_000
        assert [f">{digit}</small>" in shown for digit in range(10)] == [True] * 10
    assert "step 1/1" in run._repr_html_()


def test_runs_are_compared(arrays):
    runs = [kipper.distill(*arrays, steps=n, **SMALL) for n in (1, 2)]
    table = kipper.compare(runs[0], runs[1].workdir)
    assert [record["steps"] for record in table.records()] == ["1", "2"]
    assert table.heads[0] in str(table)
    assert "<table>" in table._repr_html_()
    assert table.plot().axes
    with pytest.raises(kipper.UserError, match="nothing to compare"):
        kipper.compare()


def test_label_solve_in_the_background(arrays):
    run = kipper.start_solve_labels(*arrays, **SMALL)
    result = run.wait()
    assert run.progress.share == 1
    assert result.labels.shape == (10, 10)


def test_what_the_run_finds_wrong_is_raised_by_wait(arrays):
    run = kipper.start(*arrays, support_size=11, **SMALL)
    with pytest.raises(kipper.UserError, match=r"^support_size is 11; it must be a multiple of"):
        run.wait()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ((), "The data are nothing; give a data set of kipper.load_data, its name, or x_train"),
        ((np.zeros((3, 4, 4)),), "The data are one array of shape"),
        (("no_such_set",), "the data set 'no_such_set' is not known"),
        (("mnist",), "data_dir is not given"),
    ],
)
def test_data_of_no_known_kind_are_refused(data, sentence):
    with pytest.raises(kipper.UserError, match=sentence):
        kipper.distill(*data, **SMALL)


def test_a_workdir_that_is_no_path_is_refused(arrays):
    with pytest.raises(kipper.UserError, match=r"^workdir is 3; it must be a path."):
        kipper.distill(*arrays, workdir=3, **SMALL)


def test_a_data_set_by_name_is_recorded_by_its_name(tmp_path):
    data = kipper.load_data("digits")
    assert "digits: 1,437 training and 360 test images 8x8x1, 10 classes" in repr(data)
    kipper.distill(data, workdir=tmp_path, steps=1, **SMALL)
    assert Workdir(tmp_path).read_config().settings["dataset"] == "digits"


@pytest.mark.processes
def test_a_run_that_nobody_waits_for_stops_with_the_program(tmp_path):
    code = (
        "import sys, threading, kipper\n"
        "begun = threading.Event()\n"
        "kipper.start('digits', workdir=sys.argv[1], steps=100_000, train_limit=100,\n"
        "             test_limit=50, dashboard='none', callback=lambda *_: begun.set())\n"
        "assert begun.wait(60)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert kipper.load(tmp_path).step >= 0
    assert pathlib.Path(tmp_path, "status.json").read_text().count('"interrupted"') == 1


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_ends_a_sweep_and_its_folder_goes(tmp_path, number):
    """`except Exception` once went on with the next run."""
    code = (
        "import contextlib, os, signal, sys, tempfile, kipper\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "signal.signal(int(sys.argv[2]), signal.SIG_DFL)\n"
        "kill = lambda *_: os.kill(os.getpid(), int(sys.argv[2]))\n"
        "for seed in range(2):\n"
        "    print('begins', flush=True)\n"
        "    with contextlib.suppress(Exception):\n"
        "        kipper.distill('digits', steps=100_000, train_limit=100, test_limit=50,\n"
        "                       seed=seed, dashboard='none', callback=kill)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path, str(int(number))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout) == (128 + number, "begins\n")
    assert list(tmp_path.iterdir()) == []


def _by_command(arrays, settings, on_poll):
    """A run by `run_by_command`, without Launchpad, on arrays of this process."""
    given = given_data(arrays)
    run_settings = RunSettings.of(
        DistillSettings, dataset=given.name, train_limit=100, dashboard="none", **settings
    )
    stop = StopRequest()
    run_by_command(run_settings, stop, lambda: on_poll(stop))


@pytest.mark.processes
def test_a_run_in_a_process_of_its_own_is_given_the_data_and_stops(arrays, tmp_path):
    def on_poll(stop):
        if len(Workdir(tmp_path).evaluations()) > 2:
            stop.ask()

    with pytest.raises(kipper.Interrupted):
        _by_command(arrays, {"workdir": str(tmp_path), "steps": 100_000}, on_poll)
    assert kipper.load(tmp_path).step > 0
    settings = {"workdir": str(tmp_path), "steps": 1, "support_size": 20}
    with pytest.raises(kipper.UserError, match="holds a run with other settings"):
        _by_command(arrays, settings, lambda stop: None)


@needs_launchpad
@pytest.mark.processes
@pytest.mark.slow
def test_a_run_by_launchpad(arrays):
    def callback(step, metrics):
        return step >= 4

    result = kipper.distill(*arrays, callback=callback, **LONG, launch="local_mp")
    assert result.step >= 4
    assert result.labels.shape == (10, 10)


def test_a_notebook_shows_the_newest_line_of_progress(monkeypatch, capsys):
    shown = []
    handle = types.SimpleNamespace(update=shown.append)
    stand_in = types.SimpleNamespace(HTML=str, display=lambda *_, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython.display", stand_in)
    said_lines(verbose=True)("seed 0")
    assert capsys.readouterr().err == "seed 0\n"
    monkeypatch.setattr("kipper.launch.interface.progress.in_notebook", lambda: True)
    said_lines(verbose=True)("loss < 1")
    said_lines(verbose=False)("seed 1")
    assert shown == ["<pre>loss &lt; 1</pre>"]
    assert capsys.readouterr().err == ""


def test_a_notebook_shows_the_images_as_they_form(arrays, monkeypatch, capsys):
    """IPython is not installed here; this stands in for it."""
    shown, updated = [], []

    class Handle:
        def update(self, run):
            updated.append(run._repr_html_())

    def display(run, display_id):
        assert display_id
        shown.append(run)
        return Handle()

    monkeypatch.setattr("kipper.launch.interface.progress.in_notebook", lambda: True)
    stand_in = types.SimpleNamespace(display=display)
    monkeypatch.setitem(sys.modules, "IPython.display", stand_in)
    run = kipper.start(*arrays, **{**SMALL, "verbose": True}, steps=1)
    assert shown == [run]
    run.wait()
    assert "finished" in updated[-1]
    assert '<img src="data:image/png;base64,' in updated[-1]
    assert "step" not in capsys.readouterr().err
