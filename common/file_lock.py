"""Locks on files. A lock ends with the process that holds it; the file names that process."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import time
from collections.abc import Iterator

from absl import logging

from kipper.common.process_identity import ProcessIdentity, this_process
from kipper.common.sealed import parse_object

_POLL_SECONDS = 0.02
_MAX_RECORD_BYTES = 4096
# Descriptors of the locks that this process holds.
_held: set[int] = set()


class Taken(Exception):
    """Another process holds the lock.

    Attributes:
        holder: who, if the file says so.
    """

    def __init__(self, holder: ProcessIdentity | None):
        super().__init__(holder)
        self.holder = holder


@contextlib.contextmanager
def locked(path: pathlib.Path, patience: float) -> Iterator[None]:
    """Holds the lock on a file, which is created if need be, while the block runs.

    The lock works between hosts if the network file system has locks. Where a file system has none,
    the process that the file names counts as the holder if it lives on this machine.

    Args:
        path: the path of the file; not a symbolic link.
        patience: seconds to wait for another process, which may be about to end.

    Raises:
        Taken: another process holds it.
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    _held.add(descriptor)
    try:
        deadline = time.monotonic() + patience
        while (before := _take(descriptor, path)) is not None:
            if time.monotonic() >= deadline:
                raise Taken(before.holder)
            time.sleep(_POLL_SECONDS)
        record = json.dumps(dataclasses.asdict(this_process())).encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, record, 0)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            with contextlib.suppress(OSError):  # also where a process that was forked shares it
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def holder_of(path: pathlib.Path) -> ProcessIdentity | None:
    """The process that a lock's file names; None if it names none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return _named_in(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: pathlib.Path) -> Taken | None:
    """Takes the lock; returns who has it instead."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _named_in(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return Taken(holder)
        if holder is not None and holder.lives():
            return Taken(holder)
        logging.warning(
            "The file system of %s has no locks (%s): nothing keeps a process on another host from "
            "working there at the same time.",
            path.parent,
            error.strerror,
        )
    return None


def _named_in(descriptor: int) -> ProcessIdentity | None:
    try:
        found = parse_object(os.pread(descriptor, _MAX_RECORD_BYTES, 0))
    except (OSError, ValueError):
        return None
    match found:
        case {"host": str(host), "pid": int(pid), "started": int(started), "boot": str(boot)}:
            return ProcessIdentity(host[:100], pid, started, boot)
    return None


def _close_in_child() -> None:
    """A process that is forked, and does not execute another program, must not keep the lock."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
