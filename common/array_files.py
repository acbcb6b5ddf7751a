"""Reads .npz files, and checks what their headers declare before it allocates memory.

A header may declare any shape, and a compressed member may be a thousand times as large as the
file.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import IO

import numpy as np

from kipper.common.memory import usable_memory

# What numpy, zipfile and zlib raise for files that are damaged or no .npz files.
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# The end of an archive without a comment: its signature, and its number of members.
_END = struct.Struct("<4s6xH10x")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclasses.dataclass(frozen=True)
class ArrayFile:
    """An open .npz file.

    Attributes:
        shapes: the shapes of the arrays, by name; they agree with the sizes that the archive
            declares.
    """

    shapes: Mapping[str, tuple[int, ...]]
    _archive: zipfile.ZipFile
    _members: Mapping[str, zipfile.ZipInfo]

    def read(self, name: str) -> np.ndarray:
        """An array; raises one of `UNREADABLE` for damaged data."""
        with self._archive.open(self._members[name]) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)


@contextlib.contextmanager
def open_npz(path: pathlib.Path, names: Collection[str] | None = None) -> Iterator[ArrayFile]:
    """Opens an .npz file for its arrays of these names, or for all.

    Raises:
        ValueError, or another of `UNREADABLE`: it is damaged, is not an .npz file, holds other
            things than plain arrays, or declares a size that is not that of its data.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not a whole zip archive")
        with zipfile.ZipFile(file) as archive:
            _check_number(file, len(archive.infolist()))
            members = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist()
                if names is None or info.filename.removesuffix(".npy") in names
            }
            shapes = {name: _checked_shape(archive, info) for name, info in members.items()}
            check_memory(sum(info.file_size for info in members.values()))
            yield ArrayFile(shapes, archive, members)


def read_npz(path: pathlib.Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file: those of these names that it holds, or all; see `open_npz`."""
    with open_npz(path, names) as arrays:
        return {name: arrays.read(name) for name in arrays.shapes}


def check_memory(num_bytes: int) -> None:
    """Raises a ValueError if this process may not use as much memory."""
    memory = usable_memory()
    if num_bytes > memory:
        raise ValueError(
            f"its data take {num_bytes / 2**30:,.0f} GiB, and this process may use "
            f"{memory / 2**30:,.0f} GiB of memory"
        )


def _check_number(file: IO[bytes], found: int) -> None:
    """Compares the number of members with the archive's own count, which zipfile does not do.

    A damaged length in the list of members hides those that follow.
    """
    file.seek(-_END.size, os.SEEK_END)
    signature, number = _END.unpack(file.read())
    if signature == b"PK\5\6" and number not in (found, 0xFFFF):
        raise ValueError(f"it has {number} members, of which {found} are listed")


def _checked_shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...]:
    if info.compress_type not in _METHODS:
        raise ValueError(f"{info.filename} is compressed by another method than DEFLATE")
    with archive.open(info) as stream:
        shape, dtype = _header(stream)
        declared, there = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
    if dtype.hasobject or dtype.fields is not None:
        raise ValueError(
            f"{info.filename} holds Python objects or records (no file is read with allow_pickle)"
        )
    if declared != there:
        raise ValueError(
            f"{info.filename} has {there:,} bytes of data, but its header declares {declared:,}"
        )
    return shape


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a .npy file, leaving the stream at its data."""
    version = np.lib.format.read_magic(stream)
    try:
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"a header has version {version}, expected (1, 0) or (2, 0)")
    except (KeyError, SyntaxError, tokenize.TokenError) as error:  # numpy parses it as Python
        raise ValueError(f"a header is damaged ({error})") from error
    return shape, dtype
