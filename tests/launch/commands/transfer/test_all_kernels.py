"""`kipper transfer --all_kernels`: one distilled set by the kernels of many architectures."""

import json
import sys

import pytest

from kipper.launch.commands.transfer import all_kernels
from kipper.launch.main import run


def table(distilled, tmp_path, capsys, *flags):
    file = f"--distilled={distilled / 'distilled.npz'}"
    assert run(["transfer", file, "--all_kernels", f"--output={tmp_path}", *flags]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.thorough
def test_each_kernel_gets_a_row_and_the_sets_own_comes_first(
    distilled, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(all_kernels, "ARCHITECTURES", ("conv_vec1", "convnet4"))
    report = table(distilled, tmp_path, capsys)
    rows = {(row["architecture"], row["kernel"]): row for row in report["kernels"]}
    names = ["fc1", "conv_vec1", "convnet4"]
    assert [*rows] == [(name, kind) for name in names for kind in ("ntk", "nngp")]
    recorded = json.loads((distilled / "result.json").read_text())["test_accuracy"]
    assert rows["fc1", "ntk"]["test_accuracy"] == recorded
    assert rows["conv_vec1", "nngp"]["test_accuracy"] > 0.5
    assert rows["fc1", "ntk"]["pairs"] == 50 * (50 + 360)
    assert "8x8 pixels are too small for 'convnet4'" in rows["convnet4", "ntk"]["left_out"]
    assert "test_accuracy" not in rows["convnet4", "ntk"]
    assert report["made_with"] == {"architecture": "fc1", "kernel": "ntk"}
    assert report == json.loads((tmp_path / "all_kernels.json").read_text())
    picture = tmp_path / "figures" / "all_kernels.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_row_is_what_evaluate_gives(distilled, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(all_kernels, "ARCHITECTURES", ("fc3",))
    report = table(distilled, tmp_path, capsys, "--test_limit=50")
    other = ["--architecture=fc3", "--kernel=nngp", "--test_limit=50"]
    assert run(["evaluate", f"--distilled={distilled / 'distilled.npz'}", *other]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    rows = {(row["architecture"], row["kernel"]): row for row in report["kernels"]}
    row = rows["fc3", "nngp"]
    for name in ("test_accuracy", "test_loss"):
        assert row[name] == evaluation[name]
    assert row["pairs"] == evaluation["kernel_pairs"]


def test_kernels_that_are_too_slow_are_left_out_and_their_pairs_printed(
    distilled, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(all_kernels, "ARCHITECTURES", ())
    report = table(distilled, tmp_path, capsys, "--max_minutes=1e-9")
    for row in report["kernels"]:
        assert row["left_out"].startswith("20,500 kernel pairs would take about ")


def test_a_terminal_gets_a_table_or_by_a_flag_json(distilled, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(all_kernels, "ARCHITECTURES", ())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    flags = ["--all_kernels", "--test_limit=20", f"--output={tmp_path}"]
    assert run(["transfer", str(distilled), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "made with architecture  fc1" in lines
    assert "architecture  kernel  pairs  test accuracy" in lines[lines.index("") + 1]
    assert [line.split()[1] for line in lines[-2:]] == ["ntk", "nngp"]
    assert run(["transfer", str(distilled), *flags, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["kernels"]) == 2
