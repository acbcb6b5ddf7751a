"""The commands `launch` and `node`: the choice of cluster and node, and the error messages."""

import importlib.util
import pathlib
import sys
import types

import pytest
from installation import needs_launchpad

from kipper.launch.main import run

ADDRESSES = '{"coordinator/0": "localhost:7070", "evaluator/0": "localhost:7071"}'


def _run(command, tmp_path, *flags):
    return run([*command.split(), f"--workdir={tmp_path / 'run'}", "--dataset=digits", *flags])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "--cluster is required: hosts:FILE, slurm or kubernetes."),
        (["--cluster=pbs"], "--cluster is 'pbs'; it must be hosts:FILE, slurm or kubernetes."),
        (["--cluster=hosts:"], "--cluster is 'hosts:'; it must be"),
        (["--cluster=hosts:/nonexistent"], "'/nonexistent' cannot be read"),
        (["--cluster=slurm", "--steps=-1"], "--steps is -1"),
        (["--cluster=slurm", "--overwrite"], "--overwrite is no flag of kipper launch"),
        (["--cluster=slurm", "--label_ridge=paper"], "label_ridge"),
        (["--lp_launch_type=local_mp"], "vertex_ai"),
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


@pytest.fixture
def without_xmanager(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "xmanager" else find_spec(name, *rest),
    )


@needs_launchpad
def test_without_xmanager_vertex_ai_is_refused(tmp_path, capsys, without_xmanager):
    assert _run("launch", tmp_path, "--lp_launch_type=vertex_ai") == 2
    error = capsys.readouterr().err
    assert "needs xmanager" in error
    assert "pip install 'dm-launchpad[xmanager]'" in error


@needs_launchpad
def test_vertex_ai_gets_the_program_and_what_its_images_are_made_of(tmp_path, monkeypatch):
    import launchpad as lp

    xmanager = types.ModuleType("xmanager")
    xmanager.__spec__ = importlib.util.spec_from_loader("xmanager", None)
    # Launchpad's configuration of an image uses nothing else of it.
    xmanager.xm = types.SimpleNamespace(JobRequirements=object, PythonContainer=object)
    monkeypatch.setitem(sys.modules, "xmanager", xmanager)
    handed = {}

    def launch(program, launch_type, xm_resources):
        handed.update(groups=program.groups, type=launch_type)
        for label, config in xm_resources.items():
            code = pathlib.Path(config.code_directory)
            assert (code / "kipper" / "launch" / "cluster" / "vertex_ai.py").exists(), label
            assert not (code / "kipper" / "tests").exists()
            requirements = pathlib.Path(config.docker_requirements).read_text().splitlines()
            assert "dm-launchpad==0.5.2" in requirements

    monkeypatch.setattr(lp, "launch", launch)
    assert _run("launch", tmp_path, "--lp_launch_type=vertex_ai", "--num_workers=2") == 0
    assert handed["type"] == "vertex_ai"
    assert {label: len(nodes) for label, nodes in handed["groups"].items()} == {
        "coordinator": 1,
        "snapshots": 1,
        "evaluator": 1,
        "worker": 2,
    }
