"""The command `launch`: the choice of cluster, and the error messages."""

import pytest

from kipper.common import this_python
from kipper.launch.main import run

TLS = ("--transport=grpc_tls", "--certificates=certificates")


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
    assert _run("launch solve_labels", tmp_path, *flags, *TLS) == 0
    assert "#SBATCH --job-name=kipper-coordinator" in capsys.readouterr().out


def test_help_names_the_flags_of_a_launch_and_those_of_its_run(capsys):
    assert run(["launch", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--cluster" in said
    assert "all flags of kipper distill" in said


@pytest.mark.parametrize("cluster", ["slurm", "hosts:{}"])
def test_commands_that_must_fail_are_not_printed(tmp_path, capsys, monkeypatch, cluster):
    (tmp_path / "hosts").write_text("node1\nnode2\n")
    flags = [f"--cluster={cluster.format(tmp_path / 'hosts')}", "--dry_run"]
    monkeypatch.setattr(this_python, "is_installed", lambda module: module != "launchpad")
    for more, sentence in (
        ([], "--transport=courier needs Launchpad, which is not installed: "),
        (TLS[:1], "--transport=grpc_tls needs --certificates=DIR"),
    ):
        assert _run("launch", tmp_path, *flags, *more) == 2
        said = capsys.readouterr()
        assert sentence in said.err
        assert said.out == ""
    for more in (TLS, ["--python=/opt/python3.10"]):
        assert _run("launch", tmp_path, *flags, *more) == 0
        assert capsys.readouterr().out


def test_a_job_outside_slurm_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert _run("slurm_job", tmp_path) == 2
    assert "runs in a job of Slurm; kipper launch submits it" in capsys.readouterr().err
