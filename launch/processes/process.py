"""What every process of a local program does first."""

import contextlib
import ctypes
import os
import resource
import signal
import sys

# Set by a supervisor to its process id, for the process it starts.
SUPERVISOR_VARIABLE = "KIPPER_SUPERVISOR"

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent dies, so that none is left an orphan.

    To be called in the main thread of a process, of which the thread that started it lives on.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # the parent was gone before
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_supervisor() -> None:
    """As `die_with_parent`, if a supervisor started this process; else nothing happens.

    By the environment, because what runs between fork and exec of a process with threads can hang.
    """
    supervisor = os.environ.pop(SUPERVISOR_VARIABLE, None)
    if supervisor is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(supervisor):  # it was gone before
        os.kill(os.getpid(), signal.SIGKILL)


def allow_open_files() -> int:
    """Raises the number of files this process may have open as far as it may; returns it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most if most != resource.RLIM_INFINITY else sys.maxsize


def forget_proxies() -> None:
    """Removes HTTP proxies from the environment: gRPC would use them even for this host."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)


def keep_freed_memory() -> None:
    """Has malloc keep freed blocks instead of giving them back to the system.

    A step allocates and frees the same few large arrays again and again. By default each comes
    fresh from the system, zeroed page by page, which takes a third of a step of a cheap kernel
    (docs/results.md). Where there is no glibc nothing happens. To be called before there are
    threads: what does not fit into a thread's own arena would come fresh from the system all the
    same.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
