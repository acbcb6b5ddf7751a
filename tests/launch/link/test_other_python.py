"""Workers of another Python, with another JAX, join a run: what is accepted and what refused."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from another_python import path_of_another_python  # noqa: F401
from runs import command

from kipper.launch.link.certificates import make_certificates
from kipper.launch.link.transports.addresses import free_port
from kipper.launch.processes import exit_codes
from kipper.server.distilled_set import load_recipe

FEW = ["--steps=2", "--train_limit=100", "--test_limit=50", "--target_batch_size=50"]
CONVNET = ["--architecture=convnet1", *FEW]

pytestmark = [pytest.mark.processes, pytest.mark.thorough]


@pytest.fixture(params=["the worker has it", "the coordinator has it"])
def pythons(request: pytest.FixtureRequest, another_python: str) -> tuple[str, str]:
    """The Pythons of the coordinator and of the worker, one of which is another than this one."""
    both = (sys.executable, another_python)
    return both if request.param == "the worker has it" else both[::-1]


@pytest.fixture
def start() -> Iterator[Callable[[list[str]], Any]]:
    """Starts processes, which do not outlive the test."""
    processes: list[subprocess.Popen[str]] = []

    def started(arguments: list[str]) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(arguments, text=True, stdout=pipe, stderr=pipe))
        return processes[-1]

    yield started
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def joined(tmp_path: pathlib.Path, pythons: tuple[str, str]) -> tuple[Any, list[str]]:
    """A function that makes the command of a coordinator that listens, and a worker's command."""
    port, certificates = free_port(), tmp_path / "certificates"
    make_certificates(str(certificates))
    both = ["--transport=grpc_tls", f"--certificates={certificates}"]
    coordinator, python = pythons
    worker = [python, "-m", "kipper", "worker", f"--coordinator=localhost:{port}", "--name=other"]

    def coordinating(workdir: pathlib.Path, *flags: str) -> list[str]:
        listening = [f"--port={port}", *both] if "--num_workers=0" in flags else []
        return [coordinator, *command(workdir, *flags, *listening)[1:]]

    return coordinating, [*worker, *both]


def finished(process: "subprocess.Popen[str]") -> str:
    """Waits for the end of a process that must succeed; returns what it wrote to stderr."""
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return error


def bits(workdir: pathlib.Path) -> dict[str, bytes]:
    """The arrays of the distilled set; the file around them may be another Python's."""
    with np.load(workdir / "distilled.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


def test_native_kernels_have_the_same_bits_on_both(
    tmp_path: pathlib.Path, start: Any, joined: tuple[Any, list[str]]
) -> None:
    coordinating, worker = joined
    finished(start(command(tmp_path / "own", *CONVNET)))
    run = start(coordinating(tmp_path / "other", *CONVNET, "--num_workers=0"))
    finished(start(worker))
    finished(run)
    sets = [bits(tmp_path / name) for name in ("own", "other")]
    assert sets[0] == sets[1]
    recipes = [load_recipe(tmp_path / name / "preprocessing.npz") for name in ("own", "other")]
    assert recipes[0].numerics == recipes[1].numerics


@pytest.mark.parametrize("pythons", ["the worker has it"], indirect=True)
def test_xla_of_another_version_is_refused_and_the_worker_ends(
    tmp_path: pathlib.Path, start: Any, joined: tuple[Any, list[str]]
) -> None:
    coordinating, worker = joined
    xla = [*CONVNET, "--engine=banded_xla"]
    finished(start(coordinating(tmp_path, *xla, "--num_workers=1")))
    more = [flag.replace("--steps=2", "--steps=3") for flag in xla]
    run = start(coordinating(tmp_path, *more, "--num_workers=0"))
    refused = start(worker)
    _, error = refused.communicate(timeout=300)
    assert refused.returncode in exit_codes.FINAL - {exit_codes.ExitCode.DONE}
    assert "Worker other is refused: it computes by banded_xla by XLA " in error
    assert "or give the run --mixed_numerics." in error
    log = (tmp_path / "logs" / "run.log").read_text()
    assert "worker=other The worker is lost: it is refused: it computes by banded_xla" in log
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "running"
    assert status["waits_for"].startswith("banded_xla by XLA ")
    run.terminate()
    run.communicate(timeout=60)

    run = start(coordinating(tmp_path, *more, "--num_workers=0", "--mixed_numerics"))
    finished(start(worker))
    assert "the bits of its result depend on which worker computed what" in finished(run)
    recipe = load_recipe(tmp_path / "preprocessing.npz")
    assert recipe.numerics is not None
    assert len(recipe.numerics.workers) == 2
    assert recipe.numerics.is_mixed
