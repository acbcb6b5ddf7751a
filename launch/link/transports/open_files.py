"""File descriptors: gRPC, and Courier by it, aborts the process that has none left."""

import contextlib
import os

from kipper.launch.link.transports.transport import ChannelError
from kipper.launch.processes.process import allow_open_files

# For what else the process opens: checkpoints, data sets, connections from outside.
_SPARE = 100


def check_files_left() -> None:
    """Refuses one more connection before it would be the last thing the process does.

    Raises:
        ChannelError: few file descriptors are left, of as many as this process may have.
    """
    limit = allow_open_files()
    with contextlib.suppress(FileNotFoundError):  # no /proc: another system than Linux
        used = len(os.listdir("/proc/self/fd"))
        if used + _SPARE > limit:
            raise ChannelError(
                f"{used} of {limit} files are open, too many for one more connection; raise the "
                "hard limit (ulimit -Hn)."
            )
