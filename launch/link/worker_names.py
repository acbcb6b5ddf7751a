"""The default name of a worker: unique, and the same after a restart on its host."""

import hashlib
import os
import pathlib
import socket

_PLACES = 1000
# They hold this process's place until it ends.
_held: list[socket.socket] = []


def own_name() -> str:
    """HOST-MARK-PLACE, which stays the name of this process.

    The mark differs between containers, also if their hosts have one name. The place is the first
    one that no other worker of the container holds, so that a restarted worker takes its own again.
    """
    return f"{socket.gethostname()}-{_mark()}-{_take_place()}"


def _mark() -> str:
    """A short hash of what distinguishes a container from others: its boot and its namespaces."""
    seen = []
    for path in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        try:
            seen.append(pathlib.Path(path).read_text())
        except OSError:
            seen.append("")
    for namespace in ("mnt", "pid", "net"):
        try:
            seen.append(os.readlink(f"/proc/self/ns/{namespace}"))
        except OSError:
            seen.append("")
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:6]


def _take_place() -> int:
    for place in range(_PLACES):
        # A name of the kernel's abstract namespace: no file, and free again when this process ends.
        holding = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holding.bind(f"\0kipper-worker-{_mark()}-{place}")
        except OSError:
            holding.close()
        else:
            _held.append(holding)
            return place
    return os.getpid()
