"""Arrays of numbers from MATLAB's .mat files of version 5 to 7.

scipy's reader trusts the sizes in a damaged file, and crashes with segmentation faults.

Source: "MAT-File Format", MathWorks: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf.
"""

import dataclasses
import io
import math
import pathlib
import zlib
from collections.abc import Callable, Collection

import numpy as np

from kipper.common.array_files import check_memory
from kipper.common.datasets.reading import read_at_most

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
# How numbers are stored, and what MATLAB's class of an array says that they are.
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_CLASSES = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}
_MOST_NAME, _MOST_DIMS = 64, 32


@dataclasses.dataclass(frozen=True)
class Variable:
    """An array that has not been read.

    Attributes:
        shape, dtype: as MATLAB has it.
        read: returns the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def open_mat(path: pathlib.Path, names: Collection[str]) -> dict[str, Variable]:
    """The arrays of these names that a file holds; only what describes them is read.

    Raises:
        ValueError: it is not such a file, or one of these variables is no real, full array.
        OSError, zlib.error: it cannot be read, or is damaged.
    """
    found: dict[str, Variable] = {}
    with open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES or header[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
            raise ValueError("it has no header of version 5 to 7")
        order = "<" if header[126:128] == b"IM" else ">"
        at = _HEADER_BYTES
        while len(tag := file.read(8)) == 8:
            kind, size = np.frombuffer(tag, f"{order}u4").tolist()
            element = _Element(path, at, order)
            if kind in (_MATRIX, _COMPRESSED):
                name, variable = element.described()
                if name in names:
                    if name in found or variable is None:
                        raise ValueError(f"{name} is not a full array of numbers, expected one")
                    found[name] = variable
            at += 8 + size + (-size % 8 if kind != _COMPRESSED else 0)
            file.seek(at)
    return found


@dataclasses.dataclass(frozen=True)
class _Element:
    """An array in a file, from its tag at `at`."""

    path: pathlib.Path
    at: int
    order: str

    def described(self) -> tuple[str, Variable | None]:
        with open(self.path, "rb") as file:
            read = self._begin(file)
            flags = self._numbers(read, 8)
            dims = self._numbers(read, 4 * _MOST_DIMS)
            name = self._numbers(read, _MOST_NAME).tobytes().decode("ascii")
        if len(flags) != 2 or min(dims, default=-1) < 0:
            raise ValueError("the description of an array is malformed")
        code, is_plain = _CLASSES.get(int(flags[0]) & 0xFF), not int(flags[0]) & 0x0800
        if code is None or not is_plain:
            return name, None
        shape = tuple(dims.tolist())
        return name, Variable(shape, np.dtype(code), lambda: self._values(shape, np.dtype(code)))

    def _values(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        count = math.prod(shape)
        check_memory(count * 8)
        with open(self.path, "rb") as file:
            read = self._begin(file)
            for most in (8, 4 * _MOST_DIMS, _MOST_NAME):
                self._numbers(read, most)
            values = self._numbers(read, count * 8)
        if len(values) != count:
            raise ValueError(f"an array has {len(values)} values, expected {count}")
        return values.astype(dtype).reshape(shape, order="F")

    def _begin(self, file: io.BufferedReader) -> Callable[[int], bytes]:
        """Reads within the array, from behind its tag."""
        file.seek(self.at)
        kind, size = np.frombuffer(file.read(8), f"{self.order}u4").tolist()
        if kind != _COMPRESSED:
            return _Limited(file.read, size).read
        read = _Inflated(_Limited(file.read, size).read).read
        kind, size = np.frombuffer(read_at_most(read, 8), f"{self.order}u4").tolist()
        if kind != _MATRIX:
            raise ValueError("a compressed variable is no array")
        return _Limited(read, size).read

    def _numbers(self, read: Callable[[int], bytes], most_bytes: int) -> np.ndarray:
        """The next numbers."""
        tag = read_at_most(read, 8)
        (word,) = np.frombuffer(tag[:4], f"{self.order}u4").tolist()
        if word >> 16:  # few bytes, within the tag
            kind, size, content = word & 0xFFFF, word >> 16, tag[4 : 4 + (word >> 16)]
        else:
            kind, size = word, int(np.frombuffer(tag[4:], f"{self.order}u4")[0])
            if size > most_bytes:
                raise ValueError(f"an array has {size} bytes, expected at most {most_bytes}")
            content = read_at_most(read, size)
            read_at_most(read, -size % 8)
        if kind not in _STORED or len(content) != size:
            raise ValueError("an array is cut off, or not of numbers")
        return np.frombuffer(content, self.order + _STORED[kind])


@dataclasses.dataclass
class _Limited:
    """The first `left` bytes of what `source` reads."""

    source: Callable[[int], bytes]
    left: int

    def read(self, size: int) -> bytes:
        content = self.source(min(size, self.left))
        self.left -= len(content)
        return content


class _Inflated:
    """The decompressed bytes of `source`; decompresses no more at once than is asked for."""

    def __init__(self, source: Callable[[int], bytes]):
        self._source = source
        self._inflating = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        while size and not self._inflating.eof:
            raw = self._inflating.unconsumed_tail or self._source(65536)
            content = self._inflating.decompress(raw, size)
            if content or not raw:
                return content
        return b""
