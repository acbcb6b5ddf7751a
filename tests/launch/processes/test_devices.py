"""Finding GPUs without JAX, on machines that have some, none, or hidden ones."""

import importlib.util
import os

import pytest

from kipper.common.errors import UserError
from kipper.launch.processes.devices import check_gpu, count_devices, use_device


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Pretends that this machine has that many GPUs, with or without JAX's plugin for them."""

    def make(gpus, plugin=True):
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *rest: plugin or None if "plugin" in name else find_spec(name, *rest),
        )
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        script = tmp_path / "nvidia-smi"
        lines = "\n".join(f"echo {index}" for index in range(gpus))
        script.write_text(f"#!/bin/sh\n{lines or 'exit 9'}\n")
        script.chmod(0o755)

    return make


def test_each_gpu_is_a_device(machine):
    machine(gpus=3)
    assert count_devices() == 3
    use_device(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def test_only_visible_gpus_count(machine, monkeypatch):
    machine(gpus=8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-7a")
    assert count_devices() == 2
    use_device(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-7a"


@pytest.mark.parametrize(("gpus", "plugin"), [(0, True), (4, False)])
def test_without_usable_gpus_the_only_device_is_the_cpu(machine, gpus, plugin):
    machine(gpus, plugin)
    assert count_devices() == 1
    use_device(0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    with pytest.raises(UserError, match="--device is 1, but JAX finds no GPU"):
        use_device(1)


def test_a_gpu_that_is_not_there_is_refused(machine):
    machine(gpus=2)
    with pytest.raises(UserError, match="--device is 2, but this machine has 2 GPUs: 0 to 1"):
        use_device(2)


@pytest.mark.parametrize(
    ("gpus", "plugin", "visible", "reason"),
    [
        (0, True, None, "nvidia-smi lists none"),
        (4, False, None, "JAX's plugin for GPUs is not installed"),
        (4, True, "", "CUDA_VISIBLE_DEVICES hides them all"),
        (4, True, "2", "JAX cannot use 2; kipper doctor tells more"),
    ],
)
def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(
    machine, monkeypatch, gpus, plugin, visible, reason
):
    machine(gpus, plugin)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("jax.default_backend", lambda: "cpu")
    with pytest.raises(UserError) as error:
        check_gpu()
    assert reason in str(error.value)


def test_a_gpu_that_jax_uses_is_enough(machine, monkeypatch):
    machine(gpus=1)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    check_gpu()
