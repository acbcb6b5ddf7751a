"""The number of cores that this process may use."""

import os


def usable_cores() -> int:
    """The cores that the scheduler lets this process run on, at least 1.

    `taskset`, Slurm and a container's cpuset make them fewer than the machine's.
    """
    return len(os.sched_getaffinity(0))
