"""What choosing an engine asks of an installation."""

import importlib.util
import subprocess
import sys

import pytest

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import UserError
from kipper.workers.choice import check_engine, make_engine


@pytest.fixture
def without_neural_tangents(monkeypatch):
    """As on Pythons that it is not installed on."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "neural_tangents" else find_spec(name, *rest),
    )


def _spec(name):
    return KernelSpec(architecture_named(name), "ntk", "float32")


@pytest.mark.parametrize(
    "module", ["banded_cpu", "banded_xla", "banded_engine", "dense_engine", "choice"]
)
def test_importing_kernels_loads_neither_the_service_nor_neural_tangents(module):
    program = (
        f"import sys, kipper.workers.{module}; "
        "heavy = {'launchpad', 'courier', 'reverb', 'tensorflow', 'neural_tangents'}; "
        "found = heavy & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_engine_is_refused():
    with pytest.raises(UserError, match=r"Unknown engine 'magic'; known are auto, neural_tangents"):
        make_engine("magic", _spec("fc1"), 1)


def test_a_missing_neural_tangents_is_said_with_what_to_do(without_neural_tangents):
    with pytest.raises(UserError, match=r"is not installed.*Python 3\.10: give --engine=auto\.$"):
        check_engine("neural_tangents", _spec("convnet"))
    for name in ("convnet", "fc1"):
        check_engine("auto", _spec(name))
