"""The script of the table of published figures: its commands are valid, its numbers are right."""

import importlib
import json
import pathlib
import sys

import pytest

from kipper.launch import flag_sets
from kipper.launch.commands.table import COMMANDS

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def reproduce():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("reproduce")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_each_row_is_a_command_of_kipper(reproduce, tmp_path):
    assert len({row.name for row in reproduce.ROWS}) == len(reproduce.ROWS)
    for row in reproduce.ROWS:
        command, *flags = reproduce.command_line(row, tmp_path, 1, "folder")
        parsed = flag_sets.parse(COMMANDS[command].settings, command, flags)
        for settings in parsed:
            settings.check()
        assert row.dataset in [getattr(settings, "dataset", None) for settings in parsed]


def test_only_unfinished_runs_are_started(reproduce, tmp_path, monkeypatch, capsys):
    row = reproduce.selected("ls_convnet_mnist_10")[0]
    finished = reproduce.folder(tmp_path, row, 0)
    finished.mkdir(parents=True)
    result = {"test_accuracy": 0.75, "test_loss": 0.03, "steps": 0, "seconds": 60}
    (finished / "result.json").write_text(json.dumps(result))
    script = tmp_path / "script.py"  # stands in for kipper
    script.write_text("import sys; print(*sys.argv[1:]); sys.exit('seed=2' in ''.join(sys.argv))")
    flags = [f"--workdir={tmp_path}", f"--rows={row.name}", "--mnist=folder"]
    arguments = ["reproduce.py", *flags, f"--kipper={sys.executable} {script}"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match=r"status 1: solve_labels .*--seed=2 "):
        reproduce.main()
    shown = capsys.readouterr().out
    assert "--seed=0" not in shown
    assert shown.index("--seed=1") < shown.index("--seed=2")


def test_the_table_gives_mean_and_spread_and_the_step_of_unfinished_runs(reproduce, tmp_path):
    solved, learned = (
        reproduce.selected(name)[0] for name in ("ls_convnet_mnist_10", "kip_fc1_cifar10_100_fixed")
    )
    for seed, accuracy in enumerate((0.74, 0.76)):
        workdir = reproduce.folder(tmp_path, solved, seed)
        workdir.mkdir(parents=True)
        result = {"test_accuracy": accuracy, "test_loss": 0.026, "seconds": 50 + seed, "steps": 0}
        pairs = {"kernel_pairs": 750_100, "vjp_pairs": 0}
        (workdir / "result.json").write_text(json.dumps(result | pairs))
    workdir = reproduce.folder(tmp_path, learned, 0)
    workdir.mkdir(parents=True)
    record = {"step": 162, "test_accuracy": 0.45, "seconds": 12.3}
    (workdir / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    table = reproduce.table([solved, learned], tmp_path).splitlines()
    assert len(table) == 4
    assert "| 73.35 [released] | 75.00 ± 1.41 | 0.027602 | 0.026000 ± 0.000000 | 2 |" in table[2]
    assert table[2].endswith("| 750,100 | 50 |")
    assert "| 46.74 [ICLR, notebook] | 45.00 (step 162 of 300) |" in table[3]
