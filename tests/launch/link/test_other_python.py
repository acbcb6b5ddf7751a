"""Workers of another Python, with another JAX, join a run: what is accepted and what refused.

The other Python is that of `make test-standalone`, or the one that KIPPER_OTHER_PYTHON names; it
needs grpcio to join a run.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from runs import command

from kipper.launch.link.certificates import make_certificates
from kipper.launch.link.transports.addresses import free_port
from kipper.launch.processes import exit_codes
from kipper.server.distilled_set import load_recipe

ROOT = pathlib.Path(__file__).parents[3]
OTHER = os.environ.get("KIPPER_OTHER_PYTHON", str(ROOT / ".venv-standalone" / "bin" / "python"))
FEW = ["--steps=2", "--train_limit=100", "--test_limit=50", "--target_batch_size=50"]
CONVNET = ["--architecture=convnet1", *FEW]

pytestmark = [pytest.mark.processes, pytest.mark.thorough]


@pytest.fixture(scope="module", autouse=True)
def other_python() -> None:
    """Skips the tests if there is no other Python that can join a run."""
    code = "import sys, jaxlib, grpc, cryptography; print(sys.version_info[:2], jaxlib.__version__)"
    try:
        found = subprocess.run([OTHER, "-c", code], capture_output=True, text=True, timeout=60)
    except OSError as error:
        pytest.skip(f"there is no other Python: {error}")
    if found.returncode != 0:
        pytest.skip(f"{OTHER} cannot join a run: {found.stderr.splitlines()[-1]}")
    own = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    if own.stdout == found.stdout:
        pytest.skip("the other Python has the same version and JAX")


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
def joined(tmp_path: pathlib.Path) -> tuple[list[str], list[str]]:
    """Flags of a coordinator that listens, and the command of a worker of the other Python."""
    port, certificates = free_port(), tmp_path / "certificates"
    make_certificates(str(certificates))
    both = ["--transport=grpc_tls", f"--certificates={certificates}"]
    worker = [OTHER, "-m", "kipper", "worker", f"--coordinator=localhost:{port}", "--name=other"]
    return [f"--port={port}", *both], [*worker, *both]


def finished(process: "subprocess.Popen[str]") -> str:
    """Waits for the end of a process that must succeed; returns what it wrote to stderr."""
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return error


def test_native_kernels_have_the_same_bits_on_both(
    tmp_path: pathlib.Path, start: Any, joined: tuple[list[str], list[str]]
) -> None:
    flags, worker = joined
    finished(start(command(tmp_path / "own", *CONVNET)))
    run = start(command(tmp_path / "other", *CONVNET, "--num_workers=0", *flags))
    finished(start(worker))
    finished(run)
    sets = [(tmp_path / name / "distilled.npz").read_bytes() for name in ("own", "other")]
    assert sets[0] == sets[1]
    recipes = [load_recipe(tmp_path / name / "preprocessing.npz") for name in ("own", "other")]
    assert recipes[0].numerics == recipes[1].numerics


def test_xla_of_another_version_is_refused_and_the_worker_ends(
    tmp_path: pathlib.Path, start: Any, joined: tuple[list[str], list[str]]
) -> None:
    flags, worker = joined
    xla = [*CONVNET, "--engine=banded_xla"]
    finished(start(command(tmp_path, *xla, "--num_workers=1")))
    more = [flag.replace("--steps=2", "--steps=3") for flag in xla]
    run = start(command(tmp_path, *more, "--num_workers=0", *flags))
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

    run = start(command(tmp_path, *more, "--num_workers=0", "--mixed_numerics", *flags))
    finished(start(worker))
    assert "the bits of its result depend on who computed what" in finished(run)
    recipe = load_recipe(tmp_path / "preprocessing.npz")
    assert recipe.numerics is not None
    assert len(recipe.numerics.workers) == 2
    assert recipe.numerics.is_mixed
