"""The processor of this machine."""

import functools
import pathlib
import platform
from typing import Literal

# The flags that each level of x86-64 requires in addition to the level below.
_LEVELS = {
    "x86-64-v2": {"cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2"},
    "x86-64-v3": {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}

# Why there are none for a processor.
TOO_OLD = (
    "No native library can run here: the processor lacks what x86-64-v2 requires, such as SSE4.2, "
    "or the system does not tell."
)


def processor_kind() -> Literal["x86-64", "arm64", "other"]:
    """The kind of instructions that this process runs."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return "x86-64"
    return "arm64" if machine in ("aarch64", "arm64") else "other"


@functools.cache
def processor_name() -> str:
    """The name of the processor as Linux reports it, or of its architecture."""
    names = _values("model name")
    return names[0] if names else platform.machine()


@functools.cache
def processor_flags() -> frozenset[str]:
    """The flags of the processor; empty if the system does not list them."""
    flags = _values("flags")
    return frozenset(flags[0].split()) if flags else frozenset()


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """The levels that native libraries are built for and this processor has, best first.

    64-bit ARM has the level "armv8-a", and processors of other kinds have "native".
    """
    if processor_kind() != "x86-64":
        return ("armv8-a",) if processor_kind() == "arm64" else ("native",)
    levels: list[str] = []
    for level, needed in _LEVELS.items():
        if not needed <= processor_flags():
            break
        levels.insert(0, level)
    return tuple(levels)


def _values(name: str) -> list[str]:
    """The values of a field of /proc/cpuinfo; none if the system has no such file."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for key, _, value in pairs if key.strip() == name]
