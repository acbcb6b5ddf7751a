"""The table of kernel engines.

To add an engine, write `workers/NAME_engine.py` (an `EngineModule`, see workers/engine.py) and add
a line to `TABLE`. The coordinator takes block sizes from it.
"""

import dataclasses
from collections.abc import Collection

from kipper.common.architecture import Architecture, Family
from kipper.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class EngineEntry:
    """One engine.

    Attributes:
        name: the value of `--engine`, and NAME in `workers/NAME_engine.py`.
        family: the networks that it evaluates; None for all.
        backend: the JAX backend that it needs, such as `cpu`, or `cuda` for a GPU of NVIDIA with or
            without JAX; None if it runs on any.
        block_support: largest number of support images in a block; None to choose by memory.
        block_target: largest number of target images in a block; None to choose by memory.
        fewest_pairs: the least number of pairs of 32x32 pixels in a block, if a step has so many:
            smaller ones are not worth their messages.
        always_float64: whether it computes kernels of float32 in float64 too.
        blocks_at_once: the number of blocks that a worker gives it, each from its own thread. One
            of several is copied while the device computes another one.
    """

    name: str
    family: Family | None = None
    backend: str | None = None
    block_support: int | None = None
    block_target: int | None = None
    fewest_pairs: int = 320  # a fifth of a second of a core's work by banded_cpu
    always_float64: bool = False
    blocks_at_once: int = 1


# From the slowest to the fastest. The first engine of each family runs on any machine. Engines of a
# family have equal blocks, so that results do not depend on the machine: block sizes decide how
# sums are rounded.
#
# The dense engine's time goes into gathering target images and a matrix product; both gain from
# many support images at once (docs/dense_kernel.md). Banded blocks are seconds of work on a core,
# which makes the cost of dispatch negligible, and fill whole vectors; on a GPU they are tens of
# milliseconds (docs/gpu.md). A run whose engine is named, and so has GPUs only, is not cut further
# than to 10 milliseconds, K and its cotangents together.
TABLE = (
    EngineEntry("neural_tangents", always_float64=True),
    EngineEntry("dense", "fully connected ReLU", None, 512),
    EngineEntry("banded_xla", "convolutional ReLU", None, 32, 256),
    EngineEntry("banded_cpu", "convolutional ReLU", "cpu", 32, 256),
    EngineEntry("banded_cuda", "convolutional ReLU", "cuda", 32, 256, 1536, blocks_at_once=2),
)
ENGINES = ("auto", *(entry.name for entry in TABLE))


def engines_for(name: str, architecture: Architecture) -> list[EngineEntry]:
    """The engines to try for a network, the preferred one first; only one unless `auto`.

    `auto` is an engine of the network's family, or neural_tangents if there is none.

    Raises:
        UserError: the engine does not exist or cannot evaluate the network.
    """
    if name == "auto":
        special = [entry for entry in reversed(TABLE) if entry.family == architecture.family]
        return special or [TABLE[0]]
    entry = next((entry for entry in TABLE if entry.name == name), None)
    if entry is None:
        raise UserError(f"Unknown engine {name!r}; known are {', '.join(ENGINES)}.")
    if entry.family not in (None, architecture.family):
        raise UserError(
            f"Engine {name!r} evaluates {entry.family} networks only, not {architecture.title!r}; "
            "give --engine=auto."
        )
    return [entry]


def blocks_at_once(names: Collection[str]) -> int:
    """How many blocks a worker with engines of these names computes at once."""
    return min((entry.blocks_at_once for entry in TABLE if entry.name in names), default=1)
