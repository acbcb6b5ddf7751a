"""File descriptors that a process keeps back for its own files.

Connections of strangers use up descriptors, and a free one may be gone a moment later. So some are
held from the beginning, and released while a file of the run is written if there are no others.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator

_SPARE = 32  # a write needs a few at once: a file, its folder, an archive's member

_lock = threading.Lock()
_held: list[int] = []
_users = 0
_is_kept = False


def keep_spare_files() -> None:
    """Takes the spare descriptors, as far as there are any; call it again to replace lost ones."""
    with _lock:
        if _users == 0:
            _refill()


@contextlib.contextmanager
def with_spare_files() -> Iterator[None]:
    """Releases the spare descriptors while the block runs, if there are no others."""
    global _users
    with _lock:
        _users += 1
        if _held and not _is_any_free():
            while _held:
                os.close(_held.pop())
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _is_kept:
                _refill()


def _refill() -> None:
    global _is_kept
    _is_kept = True
    with contextlib.suppress(OSError):
        while len(_held) < _SPARE:
            _held.append(os.open(os.devnull, os.O_RDONLY))


def _is_any_free() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return False
    return True
