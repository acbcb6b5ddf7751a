"""The examples run unchanged, and their results are good."""

import pathlib
import runpy

import numpy as np
import pytest
from installation import needs_neural_tangents

import kipper

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Examples may write files to the working directory and to the temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def _values(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_distill_your_own_images(capsys):
    result = _values("distill_your_own_images")["result"]
    assert result.test_accuracy > result.natural_accuracy + 0.2
    assert result.pixels.shape == (10, 8, 8, 1)
    shown = capsys.readouterr().out.splitlines()
    assert pathlib.Path(shown[-2].removeprefix("look at ")).exists()
    assert kipper.load("runs/own").test_accuracy == result.test_accuracy
    assert result.natural([10, 100, 1000]).comparison.needed > 20
    assert shown[-1].startswith("10 distilled images reach ")


def test_kernels_only():
    values = _values("kernels_only")
    assert values["accuracy"] > 0.9
    assert values["distilled_accuracy"] > values["natural_accuracy"] + 0.2


@pytest.mark.thorough
def test_transfer():
    values = _values("transfer")
    transferred = values["transferred"]["test_accuracy"]
    assert values["result"].natural_accuracy + 0.1 < transferred < values["result"].test_accuracy
    assert pathlib.Path("runs/digits/figures/transfer.png").exists()


@pytest.mark.thorough
@needs_neural_tangents
def test_own_engine(monkeypatch):
    """It agrees with neural-tangents, in each block and over a run."""
    values = _values("own_engine")
    assert max(values["errors"].values()) < 1e-12
    digits = values["digits"]
    arrays = [
        digits.images[:100],
        digits.target[:100],
        digits.images[300:350],
        digits.target[300:350],
    ]
    flags = {"architecture": "fc2_erf", "steps": 1, "target_batch_size": 50}
    by_neural_tangents = kipper.distill(*arrays, kernel_dtype="float64", **flags)
    made = []

    def make_engine(name, spec, threads):
        made.append(values["ErfEngine"](spec))
        return made[-1]

    monkeypatch.setattr("kipper.workers.worker.make_engine", make_engine)
    by_example = kipper.distill(*arrays, kernel_dtype="float64", **flags)
    assert made
    assert np.allclose(by_example.images, by_neural_tangents.images, rtol=0, atol=1e-8)
    assert not np.array_equal(by_example.images, by_neural_tangents.images)
