"""Describes what computes in this process: see `Numerics.arithmetic`."""

import jax
import jaxlib

from kipper.common import linalg
from kipper.common.cores import usable_cores
from kipper.common.processor import processor_name
from kipper.workers.native.build import sources_hash
from kipper.workers.native_library import runnable_levels

# How instruction sets multiply and add.
_OPERATIONS = {
    **dict.fromkeys(("x86-64-v4", "x86-64-v3", "armv8-a"), "fused"),
    "x86-64-v2": "separate",
}


def banded_arithmetic() -> str:
    """The words for native convolutional kernels: their sources, and whether operations are fused.

    Equal sources give equal bits on all instruction sets with fused multiplication and addition.
    """
    level = next(iter(runnable_levels()), "no processor")
    return f"native code {sources_hash()}, {_OPERATIONS.get(level, level)} operations"


def dense_arithmetic() -> str:
    """The words for native fully connected kernels.

    In their arithmetic, only products of matrices depend on fused operations.
    """
    return f"native code {sources_hash()}, {linalg.arithmetic()}"


def xla_arithmetic() -> str:
    """The words for XLA: its version and device.

    On CPUs XLA compiles for the very processor, and splits sums by cores.
    """
    version, kind = jaxlib.version.__version__, jax.devices()[0].device_kind
    if jax.default_backend() == "cpu":
        kind = f"{processor_name()}, {usable_cores()} cores"
    return f"XLA {version} on {kind}"
