"""Signatures, docstrings and the stub come from the settings; wrong values are refused."""

import ast
import dataclasses
import inspect
import pathlib

import numpy as np
import pytest

import kipper
from kipper.common.errors import UserError
from kipper.common.settings import DistillSettings, ExecutionSettings, SolveLabelsSettings
from kipper.common.settings.values import fitted_values
from kipper.launch.interface import stub

ROOT = pathlib.Path(__file__).parents[3]
RUNS = {
    "start": DistillSettings,
    "distill": DistillSettings,
    "start_solve_labels": SolveLabelsSettings,
    "solve_labels": SolveLabelsSettings,
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_takes_every_setting_with_its_type_and_default(name):
    found = inspect.signature(getattr(kipper, name)).parameters
    doc = getattr(kipper, name).__doc__
    for cls in (RUNS[name], ExecutionSettings):
        for field in dataclasses.fields(cls):
            if field.name not in ("workdir", "dataset"):
                assert found[field.name].default == field.default
                assert found[field.name].annotation == field.type
                assert f"    {field.name}: " in doc
    assert "**settings" not in doc
    assert "dataset" not in found
    assert found["workdir"].default is None


def test_the_stub_is_that_of_the_settings():
    written = ast.parse((ROOT / "__init__.pyi").read_text())
    assert ast.dump(ast.parse(stub.stub())) == ast.dump(written), (
        "run: python -m kipper.launch.interface.stub > __init__.pyi; ruff format __init__.pyi"
    )


def test_public_names_are_seen():
    assert {*kipper.__all__} <= {*dir(kipper)}
    for name in kipper.__all__:
        assert getattr(kipper, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        _ = kipper.distil


def _fitted(**values):
    return fitted_values((DistillSettings, ExecutionSettings), values)


def test_numbers_and_paths_of_other_libraries_become_pythons():
    found = _fitted(
        support_size=np.int64(20),
        steps=1e3,
        ridge=1,
        learn_labels=np.bool_(True),
        seed=np.array(3),
        learning_rate=np.float32(0.5),
        initial=pathlib.Path("a/b.npz"),
        num_workers="all",
        threads=None,
    )
    assert found == {
        "support_size": 20,
        "steps": 1000,
        "ridge": 1.0,
        "learn_labels": True,
        "seed": 3,
        "learning_rate": 0.5,
        "initial": "a/b.npz",
        "num_workers": "all",
        "threads": None,
    }
    kinds = {name: type(value) for name, value in found.items()}
    assert kinds["support_size"] is kinds["steps"] is kinds["seed"] is int
    assert kinds["learn_labels"] is bool
    assert kinds["ridge"] is float


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": "ten"}, "steps is 'ten', of type str; it must be a whole number."),
        ({"steps": 1.5}, "steps is 1.5, of type float; it must be a whole number."),
        ({"steps": True}, "steps is True, of type bool; it must be a whole number."),
        ({"steps": float("nan")}, "steps is nan, of type float; it must be a whole number."),
        ({"steps": float("inf")}, "steps is inf, of type float; it must be a whole number."),
        ({"steps": None}, "steps is None, of type NoneType; it must be a whole number."),
        ({"ridge": "1e-3"}, "ridge is '1e-3', of type str; it must be a number."),
        ({"learn_labels": 1}, "learn_labels is 1, of type int; it must be True or False."),
        (
            {"augment": ["flip", "shift:0.1"]},
            "augment is ['flip', 'shift:0.1'], of type list; it must be text or None, such as "
            "'flip,shift:0.1'.",
        ),
        (
            {"num_workers": "some"},
            "num_workers is 'some', of type str; it must be a whole number or 'all'.",
        ),
        ({"support_size": np.arange(3)}, "support_size is array"),
        ({"kernel": 3}, "kernel is 3, of type int; it must be text."),
    ],
)
def test_wrong_types_are_refused_by_name(values, sentence):
    with pytest.raises(UserError) as caught:
        _fitted(**values)
    assert str(caught.value).startswith(sentence)


def test_wrong_values_are_refused_in_the_words_of_python():
    with pytest.raises(UserError) as caught:
        kipper.start("digits", schedule="cosine")
    assert str(caught.value) == ("schedule=cosine needs schedule_steps, the step where it ends.")
    with pytest.raises(UserError, match=r"Unknown setting 'stepps'; known are .* mean steps\?"):
        kipper.start("digits", stepps=3)
    with pytest.raises(UserError, match="Unknown setting 'dataset'"):
        kipper.start("digits", dataset="mnist")
    with pytest.raises(UserError, match=r"kernel is 'cnn'; it must be one of ntk, nngp\."):
        kipper.start("digits", kernel="cnn")
