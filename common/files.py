"""Files are written whole or not at all, and never through a link; reading checks them.

A full disk makes a `WriteError`, which is one sentence.
"""

import contextlib
import errno
import os
import pathlib
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, BinaryIO

import numpy as np
from absl import logging

from kipper.common.errors import OF_THE_MACHINE, UserError, WriteError
from kipper.common.spare_files import with_spare_files
from kipper.common.strict_json import json_text


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Turns the machine's errors in the block into a `WriteError` that names `path`.

    This includes errors that name a part of it.
    """
    try:
        with with_spare_files():
            yield
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        raise WriteError(path, error) from error


@contextlib.contextmanager
def written_for(what: str, path: pathlib.Path, advice: str = "") -> Iterator[None]:
    """Turns any OSError of the block into one sentence.

    Args:
        what: the beginning of the sentence: what the user asked to write.
        path: names the file in a `WriteError`, which is raised where no other path would help.
        advice: the end of the sentence.

    Raises:
        UserError: the path cannot be written.
    """
    try:
        with writing(path):
            yield
    except WriteError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{what} cannot be written ({reason}){advice}.") from error


class Dispensable:
    """Writes that a run can do without, such as its logs: a failure is reported once.

    Args:
        what: the beginning of a sentence: what is written.
    """

    def __init__(self, what: object):
        self._what = what
        self._has_failed = False

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Suppresses any OSError in the block; warns of the first since the last success."""
        try:
            with with_spare_files():
                yield
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                reason = error.strerror or error
                logging.warning(
                    "%s cannot be written (%s); the run goes on without it.", self._what, reason
                )
        else:
            self._has_failed = False


def write_atomically(
    path: pathlib.Path, write: Callable[[BinaryIO], object], durably: bool = True
) -> None:
    """Calls `write` on a temporary file beside `path`, flushes it to disk, then renames it.

    A link at `path` is replaced, not followed.

    Args:
        durably: whether the content must survive a power cut once this returns.

    Raises:
        OSError: the folder cannot be written; `path` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        temporary.unlink(missing_ok=True)
        try:
            with open(temporary, "xb") as file:
                write(file)
                file.flush()
                if durably:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durably:
            sync_folder(path.parent)


@contextlib.contextmanager
def folder_written_whole(
    path: pathlib.Path, clear: Callable[[pathlib.Path], object] | None = None
) -> Iterator[pathlib.Path]:
    """A temporary folder to fill, which replaces `path` after the block unless the block raises.

    `clear` removes or renames what is at `path` just before; by default all of it is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        remove(temporary)
        temporary.mkdir()
        try:
            yield temporary
            (clear or remove)(path)
            os.replace(temporary, path)
        except BaseException:
            remove(temporary)
            raise
        sync_folder(path.parent)


def remove(path: pathlib.Path) -> None:
    """Removes a file, a link or a whole folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: pathlib.Path) -> None:
    """Makes renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def not_following(path: str, flags: int) -> int:
    """An `opener` for `open`: raises an OSError if the path is a symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def append_line(path: pathlib.Path, line: bytes) -> None:
    """Adds a line and flushes it to disk, after ending a line that a crash cut short.

    Raises:
        OSError: the file cannot be written, and is as it was; or it is a link.
    """
    with writing(path), open(path, "ab+", buffering=0, opener=not_following) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            content = line + b"\n"
            if size > 0:
                file.seek(size - 1)
                content = content if file.read(1) == b"\n" else b"\n" + content
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def open_log(path: pathlib.Path, mode: str = "a", buffering: int = -1) -> IO[str]:
    """Opens a log to write lines to; raises an OSError if it is a link."""
    return open(path, mode, buffering, encoding="utf-8", opener=not_following)


def set_aside(path: pathlib.Path) -> pathlib.Path:
    """Renames a damaged file to NAME.damaged, or NAME.damaged.2, …; returns the new path."""
    number, aside = 1, path.with_name(f"{path.name}.damaged")
    while aside.exists() or aside.is_symlink():
        number += 1
        aside = path.with_name(f"{path.name}.damaged.{number}")
    path.rename(aside)
    return aside


def read_regular_file(path: pathlib.Path) -> bytes:
    """The content of a file; raises the errors of `open_regular_file`."""
    with open_regular_file(path) as file:
        return file.read()


def open_regular_file(path: pathlib.Path) -> BinaryIO:
    """Opens a file to read.

    Raises:
        OSError: it cannot be read, or is a folder, a device or a pipe (which may never end).
    """
    with with_spare_files():
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return open(descriptor, "rb")


def write_bytes(path: pathlib.Path, content: bytes, durably: bool = True) -> None:
    """Writes bytes, atomically."""
    write_atomically(path, lambda file: file.write(content), durably)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes UTF-8 text, atomically."""
    write_bytes(path, text.encode())


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_text(path, json_text(value, indent=2) + "\n")


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays as an uncompressed .npz, atomically."""

    def write(file: BinaryIO) -> None:
        # As np.savez, which prints a traceback if a disk is full when its archive is collected.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    write_atomically(path, write)
