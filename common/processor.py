"""The processor of this machine."""

import functools
import pathlib
import platform


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


def _values(name: str) -> list[str]:
    """The values of a field of /proc/cpuinfo; none if the system has no such file."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for key, _, value in pairs if key.strip() == name]
