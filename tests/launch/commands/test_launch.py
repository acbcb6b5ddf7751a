"""The commands `launch` and `node`: the choice of cluster and node, and the error messages."""

import pytest

from kipper.launch.main import run

ADDRESSES = '{"coordinator/0": "localhost:7070", "evaluator/0": "localhost:7071"}'


def _run(command, tmp_path, *flags):
    return run([*command.split(), f"--workdir={tmp_path / 'run'}", "--dataset=digits", *flags])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "--cluster is required: hosts:FILE or slurm."),
        (["--cluster=kubernetes"], "--cluster is 'kubernetes'; it must be hosts:FILE or slurm."),
        (["--cluster=hosts:"], "--cluster is 'hosts:'; it must be"),
        (["--cluster=hosts:/nonexistent"], "'/nonexistent' cannot be read"),
        (["--cluster=slurm", "--steps=-1"], "--steps is -1"),
        (["--cluster=slurm", "--overwrite"], "--overwrite is no flag of kipper launch"),
        (["--cluster=slurm", "--label_ridge=paper"], "label_ridge"),
    ],
)
def test_a_launch_that_cannot_be_is_one_sentence(tmp_path, capsys, flags, sentence):
    assert _run("launch", tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_flags_of_solve_labels_come_after_its_word(tmp_path, capsys):
    flags = ["--cluster=slurm", "--label_ridge=notebook", "--support_size=20", "--dry_run"]
    assert _run("launch solve_labels", tmp_path, *flags) == 0
    assert "#SBATCH --job-name=kipper-coordinator" in capsys.readouterr().out


def test_help_names_the_flags_of_a_launch_and_those_of_its_run(capsys):
    assert run(["launch", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--cluster" in said
    assert "all flags of kipper distill" in said


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([f"--addresses={ADDRESSES}"], "--node is required."),
        (["--node=worker/0", f"--addresses={ADDRESSES}"], "--node is 'worker/0'; it must be one"),
        (["--node=coordinator/0"], "--addresses is required."),
        (["--node=coordinator/0", "--addresses=[1]"], "--addresses is '[1]'"),
        (["--node=c", '--addresses={"c": "localhost"}'], "not an address of the form HOST:PORT"),
    ],
)
def test_a_node_that_cannot_be_is_one_sentence(tmp_path, capsys, flags, sentence):
    assert _run("node", tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
