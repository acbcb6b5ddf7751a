"""What choosing an engine asks of an installation."""

import importlib.util
import subprocess
import sys

import pytest
from installation import NEURAL_TANGENTS

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import UserError
from kipper.workers import choice
from kipper.workers.bands import banded_network
from kipper.workers.choice import check_engine, make_engine
from kipper.workers.dense import dense_network


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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fc2", "dense"),
        ("convnet5", "banded"),
        ("convnet4_gap", "banded"),
        ("conv_gap3", "banded"),
        ("myrtle5", "banded"),
        ("fc2_erf", "neural_tangents"),
        ("convnet_gelu", "neural_tangents"),
        ("conv_vec2_leaky", "neural_tangents"),
    ],
)
def test_auto_takes_the_fastest_that_can(monkeypatch, name, kind):
    monkeypatch.setattr(choice, "check_native", lambda spec: None)  # takes a while for five pools
    if kind == "neural_tangents" and not NEURAL_TANGENTS:
        with pytest.raises(UserError, match=f"'{name}' is evaluated by neural-tangents alone"):
            make_engine("auto", _spec(name), 1)
    else:
        assert make_engine("auto", _spec(name), 1).name.startswith(kind)


def test_what_is_no_relu_network_has_no_fast_engine():
    """So that tilings, which ask this, are for the engine that `auto` takes."""
    names = ("fc2", "convnet", "convnet_gap", "convnet4", "myrtle7", "conv_vec2", "conv_gap2")
    for name in [*names, *(f"{name}_{a}" for name in names for a in ("leaky", "erf", "gelu"))]:
        architecture = architecture_named(name)
        network = dense_network(architecture) or banded_network(architecture, 64, 64)
        assert (network is not None) == architecture.is_rectified


@pytest.mark.parametrize(
    ("engine", "name"),
    [("dense", "fc1_gelu"), ("banded_xla", "convnet_erf"), ("banded_cpu", "convnet_leaky")],
)
def test_engines_say_which_networks_they_cannot_evaluate(engine, name):
    with pytest.raises(UserError, match=f"ReLU networks only, not '{name}'; give --engine=auto"):
        check_engine(engine, _spec(name))


def test_a_missing_neural_tangents_is_said_with_what_to_do(without_neural_tangents):
    with pytest.raises(UserError, match=r"is not installed.*Python 3\.10: give --engine=auto\.$"):
        check_engine("neural_tangents", _spec("convnet"))
    for name in ("convnet", "fc1"):
        check_engine("auto", _spec(name))
    with pytest.raises(UserError, match=r"'fc1_erf' is evaluated by neural-tangents alone, which"):
        check_engine("auto", _spec("fc1_erf"))
