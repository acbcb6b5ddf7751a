"""What computes in this process, in words: see `Numerics.arithmetic`."""

import jax
import jaxlib

from kipper.common.cores import usable_cores
from kipper.common.processor import processor_name
from kipper.workers.native.build import sources_hash
from kipper.workers.native_library import runnable_levels


def native_arithmetic() -> str:
    """The words for native code: its sources and its instruction set."""
    return f"native code {sources_hash()} for {next(iter(runnable_levels()), 'no processor')}"


def xla_arithmetic() -> str:
    """The words for XLA: its version and device.

    On CPUs XLA compiles for the very processor, and splits sums by cores.
    """
    version, kind = jaxlib.version.__version__, jax.devices()[0].device_kind
    if jax.default_backend() == "cpu":
        kind = f"{processor_name()}, {usable_cores()} cores"
    return f"XLA {version} on {kind}"
