"""What the choice of an engine requires of an installation."""

import importlib.util
import subprocess
import sys

import jax
import numpy as np
import pytest
from installation import NEURAL_TANGENTS

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.engines import TABLE, engines_for
from kipper.common.errors import UserError
from kipper.workers import banded_cpu_engine, banded_xla_engine, dense_cpu, dense_engine
from kipper.workers.choice import check_engine, make_engine
from kipper.workers.engine import PreparedImages


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


@pytest.mark.parametrize("module", ["choice", *(f"{entry.name}_engine" for entry in TABLE)])
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
    monkeypatch.setattr(banded_cpu_engine, "check_native", lambda *_: None)  # slow for five pools
    if kind == "neural_tangents" and not NEURAL_TANGENTS:
        with pytest.raises(
            UserError, match=f"'{name}' needs engine 'neural_tangents': neural-tang"
        ):
            make_engine("auto", _spec(name), 1)
    else:
        assert make_engine("auto", _spec(name), 1).name.startswith(kind)


@pytest.mark.parametrize(
    ("backend", "name", "chosen"),
    [("gpu", "fc2", "dense"), ("tpu", "fc2", "dense"), ("tpu", "convnet", "banded_xla")],
)
def test_accelerators_without_an_engine_of_their_own_take_plain_jax(
    monkeypatch, backend, name, chosen
):
    """A stand-in for the device: matrix products are then XLA's, on a GPU those of cuBLAS."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(dense_cpu, "kernel", None)  # native code is not called
    engines = dense_engine.make_engine, banded_xla_engine._engine
    for made in engines:
        made.cache_clear()
    engine = make_engine("auto", _spec(name), 1)
    for made in engines:
        made.cache_clear()
    assert engine.name == chosen
    assert "XLA" in engine.arithmetic
    if chosen == "dense":
        images = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
        prepared = PreparedImages(images, engine.features(images))
        kernel, (cotangent,) = engine.block_vjp(prepared, prepared, np.ones((3, 3), "f"), False)
        assert kernel.shape == (3, 3)
        assert cotangent.shape == images.shape


def test_engines_that_auto_chooses_between_have_equal_blocks():
    names = ("fc2", "convnet", "convnet_gap", "convnet4", "myrtle7", "conv_vec2", "conv_gap2")
    for name in [*names, *(f"{name}_{a}" for name in names for a in ("leaky", "erf", "gelu"))]:
        entries = engines_for("auto", architecture_named(name))
        assert len({(entry.block_support, entry.block_target) for entry in entries}) == 1
        assert entries[-1].backend is None
        assert (entries[-1].name == "neural_tangents") == (name not in names)


@pytest.mark.parametrize(
    ("engine", "name"),
    [("dense", "fc1_gelu"), ("banded_xla", "convnet_erf"), ("banded_cpu", "convnet_leaky")],
)
def test_engines_say_which_networks_they_cannot_evaluate(engine, name):
    with pytest.raises(UserError, match=f"ReLU networks only, not '{name}'; give --engine=auto"):
        check_engine(engine, _spec(name))


def test_a_missing_neural_tangents_is_said_with_what_to_do(without_neural_tangents):
    with pytest.raises(UserError, match=r"\(--engine=auto takes .*\): .* is not installed: "):
        check_engine("neural_tangents", _spec("convnet"))
    for name in ("convnet", "fc1"):
        check_engine("auto", _spec(name))
    with pytest.raises(
        UserError, match=r"'fc1_erf' needs engine .* Architectures with ReLU do not"
    ):
        check_engine("auto", _spec("fc1_erf"))
