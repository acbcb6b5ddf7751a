"""Shares out file descriptors: gRPC, which Courier uses too, aborts a process that has none left.

The limit is raised as far as the system allows. Some descriptors are for files and libraries; half
of the rest are for connections that others make, and half for those that this process makes.
"""

import os

from kipper.launch.link.transports.transport import ChannelError
from kipper.launch.processes.process import allow_open_files

# For checkpoints, data sets, logs, libraries and the live page. gRPC accepts a connection before it
# refuses it, which takes one of these for a moment.
_OTHER_FILES = 200
# Of these, those that remain when connections are refused.
_SPARE = 100
# A worker connects to the coordinator, and is connected to: once, or twice while a lost connection
# is replaced; and it looks whether the coordinator listens.
_FILES_PER_WORKER = 6
# A connection takes some 25 KB as long as a stranger keeps it open.
_MAX_INCOMING = 4096


def max_incoming_connections() -> int:
    """The number of connections that a listener admits at once."""
    limit = allow_open_files()
    return min(max((limit - _OTHER_FILES) // 2, limit // 4), _MAX_INCOMING)


def max_workers() -> int:
    """The number of workers that a coordinator admits; others leave them room to connect."""
    by_files = (allow_open_files() - _OTHER_FILES) // _FILES_PER_WORKER
    return max(1, min(by_files, max_incoming_connections() * 3 // 4))


def check_files_left() -> None:
    """Checks that one more connection is safe.

    Raises:
        ChannelError: few file descriptors are left.
    """
    limit = allow_open_files()
    try:
        used = len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:  # no /proc: another system than Linux
        return
    except OSError:  # no descriptor is left even for that
        used = limit
    if used + _SPARE > limit:
        raise ChannelError(
            f"{used} of {limit} files are open, too many for another connection; raise the "
            "hard limit (ulimit -Hn)."
        )
