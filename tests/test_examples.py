"""The examples run unchanged, and their results are good."""

import json
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


def test_notebooks_are_those_of_the_scripts_without_outputs():
    jupytext = pytest.importorskip("jupytext")
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in scripts] == sorted(p.stem for p in EXAMPLES.glob("*.ipynb"))
    first_cells = set()
    for path in scripts:
        script = jupytext.read(path).cells
        notebook = json.loads(path.with_suffix(".ipynb").read_text())
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
        assert cells == [(cell.cell_type, cell.source) for cell in script], "run make notebooks"
        assert not any(cell.get("outputs") for cell in notebook["cells"])
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"
        first_cells.add(next(source for kind, source in cells if kind == "code"))
    (installs,) = first_cells
    assert "kipper-*.whl" in installs


def test_the_first_cell_installs_what_is_missing(monkeypatch):
    code = (EXAMPLES / "transfer.py").read_text().split("# %%")[2]
    ran = []
    monkeypatch.setattr("subprocess.run", lambda words, check: ran.append(words))
    exec(code, {})
    assert ran == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    exec(code, {})
    pathlib.Path("kipper-0.1.0.whl").touch()
    exec(code, {})
    assert [words[-1] for words in ran] == ["..", "kipper-0.1.0.whl"]


def test_distill_your_own_images(capsys):
    values = _values("distill_your_own_images")
    result = values["result"]
    assert result.test_accuracy > result.natural_accuracy + 0.2
    assert result.pixels.shape == (10, 8, 8, 1)
    shown = capsys.readouterr().out
    assert pathlib.Path("distilled.png").read_bytes().startswith(b"\x89PNG")
    assert kipper.load("own.npz").test_accuracy == result.test_accuracy
    assert pathlib.Path("own.safetensors").exists()
    assert values["natural"].comparison.needed > 20
    assert "10 distilled images reach " in shown
    assert values["transferred"]["test_accuracy"] > result.natural_accuracy


def test_kernels_in_scikit_learn():
    values = _values("kernels_in_scikit_learn")
    assert values["svc_accuracy"] > values["gaussian_accuracy"]
    exact, gaussian = values["curves"].values()
    assert exact[-1] == values["ridge_accuracy"] > 0.94
    assert sum(exact) > sum(gaussian) + 0.1
    assert {"kernel.png", "accuracies.png"} <= {path.name for path in pathlib.Path().iterdir()}


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
