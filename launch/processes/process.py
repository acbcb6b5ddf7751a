"""Settings that a process applies to itself when it starts."""

import contextlib
import ctypes
import os
import resource
import signal
import sys

# Holds the process id of the supervisor that started this process.
SUPERVISOR_VARIABLE = "KIPPER_SUPERVISOR"

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def die_with_parent(parent: int | None = None) -> None:
    """Asks the kernel to kill this process when its parent dies, so that no orphan is left.

    Call this in the main thread. "Parent" is the thread that started this process.

    Args:
        parent: its process id, to notice that it has died already; else only an orphan's parent, 1,
            is noticed.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1 if parent is None else os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_supervisor() -> None:
    """Like `die_with_parent`, if a supervisor started this process; else does nothing.

    The supervisor asks through the environment: code that runs between fork and exec of a process
    with threads can hang.
    """
    supervisor = os.environ.pop(SUPERVISOR_VARIABLE, None)
    if supervisor is not None:
        die_with_parent(int(supervisor))


def allow_open_files() -> int:
    """Raises the limit of open files as far as the system allows; returns it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most if most != resource.RLIM_INFINITY else sys.maxsize


def forget_proxies() -> None:
    """Removes HTTP proxies from the environment: gRPC would use them even for this host."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)


def keep_freed_memory() -> None:
    """Makes malloc keep freed blocks instead of returning them to the system.

    Each step allocates and frees the same few large arrays. By default the system provides each
    anew, zeroed page by page, which takes a third of a step of a cheap kernel (docs/results.md).
    Without glibc this does nothing. Call it before there are threads: arrays that do not fit into a
    thread's own arena would still come from the system.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
