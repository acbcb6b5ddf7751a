"""Finds this machine's GPUs without JAX, and restricts a process to one of them.

JAX reserves most of a GPU's memory when it first uses it, so a process must choose before.
"""

import contextlib
import importlib.util
import os
import subprocess

from kipper.common.errors import UserError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
# JAX uses GPUs only with one of these packages.
_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def gpus() -> list[str]:
    """CUDA's names of the GPUs that JAX can use."""
    if not any(importlib.util.find_spec(plugin) for plugin in _PLUGINS):
        return []
    visible = os.environ.get(_VISIBLE)
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.split() if listed.returncode == 0 else []


def count_devices() -> int:
    """The number of workers for this machine: one for each GPU, or one for the CPU."""
    return len(gpus()) or 1


def use_device(device: int) -> None:
    """Restricts this process to one GPU; device 0 of a machine without GPUs is its CPU.

    Call this before JAX is used.

    Raises:
        UserError: there is no such device.
    """
    names = gpus()
    if not names:
        if device != 0:
            raise UserError(
                f"--device is {device}, but JAX finds no GPU on this machine; --device=0 is its "
                "CPU."
            )
        return
    if device >= len(names):
        raise UserError(
            f"--device is {device}, but this machine has {len(names)} GPUs: 0 to {len(names) - 1}."
        )
    os.environ[_VISIBLE] = names[device]


def check_gpu() -> None:
    """Checks that JAX computes on a GPU in this process, which it does from now on.

    Raises:
        UserError: it has none; the message says why.
    """
    if names := gpus():
        # Imported here because it takes seconds, and the choice of a device comes first.
        import jax

        with contextlib.suppress(RuntimeError):  # no platform of JAX_PLATFORMS works
            if jax.default_backend() == "gpu":
                return
        reason = f"JAX cannot use {', '.join(names)}; kipper doctor tells more"
    elif not any(importlib.util.find_spec(plugin) for plugin in _PLUGINS):
        reason = "JAX's plugin for GPUs is not installed; pip install 'kipper[cuda]'"
    elif _VISIBLE in os.environ:
        reason = f"{_VISIBLE} hides them all"
    else:
        reason = "nvidia-smi lists none"
    raise UserError(
        f"A GPU was asked for, and there is none to use ({reason}); mend that, or ask for workers "
        "without GPUs."
    )
