"""Guards file descriptors: gRPC, which Courier uses too, aborts a process that has none left."""

import contextlib
import os

from kipper.launch.link.transports.transport import ChannelError
from kipper.launch.processes.process import allow_open_files

# For other purposes: checkpoints, data sets, incoming connections.
_SPARE = 100


def check_files_left() -> None:
    """Checks that one more connection is safe.

    Raises:
        ChannelError: few file descriptors are left.
    """
    limit = allow_open_files()
    with contextlib.suppress(FileNotFoundError):  # no /proc: another system than Linux
        used = len(os.listdir("/proc/self/fd"))
        if used + _SPARE > limit:
            raise ChannelError(
                f"{used} of {limit} files are open, too many for another connection; raise the "
                "hard limit (ulimit -Hn)."
            )
