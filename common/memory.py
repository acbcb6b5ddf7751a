"""The amount of memory that this process may use."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

_CONTROL_GROUPS = pathlib.Path("/sys/fs/cgroup")


def usable_memory() -> int:
    """Bytes of memory of this machine, or the limit of this process's control groups if lower.

    Slurm, Kubernetes and containers limit memory by control groups.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits()])


def _limits() -> Iterator[int]:
    """The limits of the groups that this process is in, and of the groups around them."""
    try:
        memberships = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        if not controllers:
            root, name = _CONTROL_GROUPS, "memory.max"
        elif controllers == "memory":  # version 1
            root, name = _CONTROL_GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for each in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # "max" is no limit
                yield int((each / name).read_text())
            if each == root:
                break
