"""Figures and reports as a user meets them: after every run, and redrawn from its files."""

import ast
import base64
import dataclasses
import html.parser
import io
import json
import re
import shlex
import shutil

import numpy as np
import pytest
from pictures import pixels_of, places_of
from PIL import Image

from kipper.common.errors import UserError
from kipper.launch.main import run
from kipper.server.figures import style, tiles
from kipper.server.records import Evaluation, RunResult
from kipper.server.report import drawing, writing
from kipper.server.report.run_files import read_run, read_support
from kipper.server.report.writing import command_of

FLAGS = ["--target_batch_size=100", "--test_limit=100", "--num_workers=1"]
VOID = {"meta", "img", "source", "br", "link", "input"}


def _distill(workdir, *flags):
    return run(["distill", f"--workdir={workdir}", "--dataset=digits", *FLAGS, *flags])


@pytest.fixture(scope="module")
def odd_names(tmp_path_factory):
    """A finished run on a data set of real-looking classes and a name that is markup."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.random((120, 8, 8, 3)) + labels[:, None, None, None] / 3
    dataset = folder / "<script>alert(1)<&script>.npz"
    np.savez(dataset, x_train=images, y_train=labels, x_test=images[:60], y_test=labels[:60])
    flags = ["--support_size=3", "--learn_labels", "--steps=2", "--num_workers=1"]
    assert run(["distill", f"--workdir={folder / 'a&b'}", f"--dataset=npz:{dataset}", *flags]) == 0
    return folder / "a&b"


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A finished run of Label Solve."""
    workdir = tmp_path_factory.mktemp("runs") / "solved"
    flags = ["--dataset=digits", "--test_limit=100", "--support_size=20", "--num_workers=1"]
    assert run(["solve_labels", f"--workdir={workdir}", *flags, "--train_limit=300"]) == 0
    return workdir


class _Page(html.parser.HTMLParser):
    """Tags in order, checked to be closed in order; what they refer to; all text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.words = [], [], []
        self.on_dark = []
        self.tags = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "source":
            values = dict(attrs)
            assert values["media"] == "screen and (prefers-color-scheme: dark)"
            self.on_dark.append(values["srcset"])
            return
        self.references += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def _page(workdir):
    text = (workdir / "report.html").read_text()
    assert text.lstrip().startswith("<!DOCTYPE html>")
    assert "url(" not in text
    assert "@import" not in text
    return _Page(text)


def _figures(workdir):
    return {path.stem: path.read_bytes() for path in (workdir / "figures").glob("*.png")}


def test_a_run_draws_all_its_figures_and_a_report_that_holds_them(odd_names):
    figures = _figures(odd_names)
    assert set(figures) == {"distilled", "labels", "curve", "spectrum", "timeline"}
    page = _page(odd_names)
    pictures = [base64.b64decode(source.partition("base64,")[2]) for source in page.references]
    assert all(source.startswith("data:image/png;base64,") for source in page.references)
    assert sorted(pictures) == sorted(figures.values())
    words = " ".join(page.words)
    result = json.loads((odd_names / "result.json").read_text())
    assert f"{100 * result['test_accuracy']:.1f} %" in words
    for said in ("forward", "worker-0", "numeric identity", "learn_labels", "kipper evaluate"):
        assert said in words, said
    evaluated = json.loads((odd_names / "metrics.jsonl").read_text().splitlines()[-1])
    for said in (f"{evaluated['loss']:.6g}", "bytes moved", "worker deaths", "numpy"):
        assert said in words, said


def test_each_figure_has_a_dark_version_with_the_same_pictures(odd_names):
    page = _page(odd_names)
    for light, dark in zip(page.references, page.on_dark, strict=True):
        assert dark.startswith("data:image/png;base64,")
        found = [base64.b64decode(each.partition("base64,")[2]) for each in (light, dark)]
        light, dark = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in found)
        assert light.shape == dark.shape
        assert light[0, 0].tolist() == [255, 255, 255]
        assert dark[0, 0].tolist() == [0x16, 0x16, 0x16]
    support = read_support(read_run(odd_names))
    first = support.recipe.preprocessing.invert(support.natural[:1].astype(np.float32))
    tile = tiles.enlarged(tiles.as_pixels(first, support.recipe.pixel_range), 1)[0]
    shown = np.asarray(Image.open(io.BytesIO(_dark(page, 0))).convert("RGB"))
    zoom = next(z for z in range(20, 0, -1) if places_of(tiles.enlarged(tile[None], z)[0], shown))
    assert zoom > 4


def _dark(page, number):
    return base64.b64decode(page.on_dark[number].partition("base64,")[2])


def test_no_setting_is_blank_and_those_without_a_value_say_what_they_come_to(odd_names):
    text = (odd_names / "report.html").read_text()
    settings = text[text.index("<h2>Settings</h2>") :]
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td></tr>", settings)
    found = dict(rows)
    assert all(found.values())
    assert found["target_batch_size"] == "150"
    assert found["label_learning_rate"] == "0.04"
    assert html.unescape(found["block_support"]) == "the engine's, or else one by memory"
    assert found["test_limit"] == "all"
    assert found["augment"] == "none"


def test_the_run_is_repeated_beside_its_folder(odd_names, tmp_path):
    text = html.unescape((odd_names / "report.html").read_text())
    command = text[text.index("<pre>kipper distill") + 5 :].partition("</pre>")[0]
    words = shlex.split(command.replace("\\\n", ""))
    assert words == ["kipper", *command_of(read_run(odd_names), f"{odd_names}_again")[1:]]
    copy = tmp_path / "copy"
    shutil.copytree(odd_names, copy)
    (tmp_path / "copy_again").mkdir()
    assert run(["report", str(copy)]) == 0
    assert f"--workdir={tmp_path}/copy_again1" in (copy / "report.html").read_text()


def test_a_run_on_arrays_is_repeated_by_a_call(odd_names):
    found = read_run(odd_names)
    settings = dataclasses.replace(found.algorithm.settings, dataset="arrays:0123")
    found = dataclasses.replace(
        found, algorithm=dataclasses.replace(found.algorithm, settings=settings)
    )
    call = writing.again(found).command
    folder = f"{odd_names}_again"
    assert call.startswith("kipper.distill(data, ")
    called = ast.parse(call).body[0].value
    assert {each.arg: ast.literal_eval(each.value) for each in called.keywords} == {
        "workdir": folder,
        "support_size": 3,
        "num_workers": 1,
        "learn_labels": True,
        "steps": 2,
    }


def test_names_are_text_and_never_markup(odd_names):
    page = _page(odd_names)
    assert "script" not in page.tags
    assert any("<script>alert(1)<&script>.npz" in words for words in page.words)


def test_the_command_line_of_the_report_is_that_of_the_run(odd_names):
    found = read_run(odd_names)
    command = command_of(found)
    assert command[:2] == ["kipper", "distill"]
    assert set(command[2:]) == {
        f"--workdir={odd_names}",
        f"--dataset={found.settings['dataset']}",
        "--support_size=3",
        "--learn_labels",
        "--steps=2",
        "--num_workers=1",
    }


def test_a_configuration_without_a_required_setting_is_told(odd_names, tmp_path):
    found = read_run(odd_names)
    settings = {name: value for name, value in found.settings.items() if name != "workdir"}
    with pytest.raises(UserError, match=r"config.json lacks the setting workdir"):
        command_of(dataclasses.replace(found, settings=settings))


def test_label_solve_has_its_figures(solved):
    assert set(_figures(solved)) >= {"distilled", "labels", "curve", "timeline"}
    support = read_support(read_run(solved))
    assert np.array_equal(support.final, support.natural)
    assert not np.allclose(support.labels, support.original_labels)
    assert support.nearest is None  # natural images are their own


def test_targets_of_a_regression_have_no_labels_figure(solved):
    found = read_run(solved)
    rng = np.random.default_rng(0)
    support = dataclasses.replace(
        read_support(found),
        targets=rng.normal(size=(20, 2)),
        original_labels=rng.normal(size=(20, 2)),
        labels=rng.normal(size=(20, 2)),
    )
    records = [Evaluation.read({"step": 0, "loss": 1.0, "test_r2": 0.5})]
    result = RunResult.read({"test_r2": 0.5, "natural_r2": 0.25, "loss": 1.0, "steps": 0})
    figures = drawing.figures_of(
        dataclasses.replace(found, metrics=records, result=result, spectra=[]), support, None
    )
    assert list(figures) == ["distilled", "curve"]
    (bars,) = figures["curve"]().axes
    assert [bar.get_width() for bar in bars.patches] == [0.25, 0.5]
    pixels_of(figures["distilled"]())


def test_a_report_is_redrawn_from_files_alone(odd_names, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(odd_names, copy)
    before = _figures(copy)
    shutil.rmtree(copy / "figures")
    (copy / "report.html").unlink()
    assert run(["report", str(copy)]) == 0
    assert str(copy / "report.html") in capsys.readouterr().out
    assert _figures(copy) == before
    _page(copy)


def test_the_report_of_an_unfinished_run_shows_its_progress(odd_names, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(odd_names, copy)
    for name in ("result.json", "distilled.npz", "neighbours.npz"):
        (copy / name).unlink()
    shutil.rmtree(copy / "checkpoints" / "step-000002")
    (copy / "status.json").write_text('{"state": "interrupted", "step": 1}')
    support = read_support(read_run(copy))
    assert support.step == 1
    assert not np.array_equal(support.final, support.initial)
    assert run(["report", str(copy)]) == 0
    words = " ".join(_page(copy).words)
    assert "interrupted at step 1 of 2" in words
    assert "kipper evaluate" not in words
    damaged = copy / "checkpoints" / "step-000001" / "state.npz"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert read_support(read_run(copy)).step == 0


def test_a_run_that_has_not_begun_has_a_report_too(odd_names, tmp_path):
    (tmp_path / "config.json").write_bytes((odd_names / "config.json").read_bytes())
    assert run(["report", str(tmp_path)]) == 0
    assert "No figures yet." in _page(tmp_path).words


def test_a_figure_that_cannot_be_drawn_costs_the_run_nothing_else(tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise ZeroDivisionError("a flaw in a figure")

    monkeypatch.setattr(drawing, "curve_figure", fails)
    assert _distill(tmp_path, "--steps=0") == 0
    assert "figures/curve.png could not be drawn" in capsys.readouterr().err
    assert (tmp_path / "result.json").exists()
    assert set(_figures(tmp_path)) == {"distilled", "spectrum", "timeline"}
    assert run(["report", str(tmp_path)]) == 1
    assert "curve could not be drawn" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_costs_the_run_nothing(tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise ZeroDivisionError("a flaw in the page")

    monkeypatch.setattr(writing, "render", fails)
    assert _distill(tmp_path, "--steps=0") == 0
    assert "kipper report" in capsys.readouterr().err
    assert (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report"], "The folder of a run is missing"),
        (["report", "nowhere"], "nowhere is not the folder of a run"),
        (["report", "one", "two"], "Unexpected argument 'one'"),
        (["compare"], "The folders of runs are missing"),
        (["compare", "nowhere"], "nowhere is not the folder of a run"),
        (["compare", "a", "--output=b.svg"], "--output is b.svg; its name must end in .png."),
    ],
)
def test_a_mistake_gets_one_sentence(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_runs_are_compared_in_a_table_and_a_figure(
    odd_names, solved, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "compared.png"
    drawn = []
    monkeypatch.setattr(style, "png", lambda figure: drawn.append(figure) or b"png")
    assert run(["compare", str(odd_names), f"--output={output}", str(solved)]) == 0
    assert output.read_bytes() == b"png"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["run", "dataset"]
    row = next(line for line in lines if str(solved) in line)
    result = json.loads((solved / "result.json").read_text())
    assert f"{100 * result['test_accuracy']:.1f}" in row
    assert f"{100 * result['natural_accuracy']:.1f}" in row
    monkeypatch.undo()
    (figure,) = drawn
    points = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].get_lines()}
    assert points["digits, LS"] == [[20, pytest.approx(100 * result["test_accuracy"])]]
    assert len(pixels_of(figure)) > 300
