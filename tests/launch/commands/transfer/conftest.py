"""A distilled set that all tests of transfer share."""

import pytest

from kipper.launch.main import run


@pytest.fixture(scope="session")
def distilled(tmp_path_factory):
    """The folder of a small run."""
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    flags = ["--dataset=digits", "--steps=4", "--target_batch_size=200", "--support_size=50"]
    assert run(["distill", f"--workdir={workdir}", *flags]) == 0
    return workdir
