"""The number of cores that this process may use."""

import os
import sys


def usable_cores() -> int:
    """The cores that the scheduler lets this process run on, at least 1.

    `taskset`, Slurm and a container's cpuset make them fewer than the machine's; macOS
    lets a process run on all of them.
    """
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
