"""JSON objects in files, written with a checksum of their content and checked when read.

A disk, a copy or an editor may change a file. The checksum makes a changed number as noticeable as
a broken brace. An object without a checksum, from an earlier version or written by hand, is taken
as it is.
"""

import hashlib
import json
import math
import pathlib
from collections.abc import Mapping
from typing import TypeGuard

from kipper.common.files import read_regular_file, write_json
from kipper.common.strict_json import finite

CHECKSUM = "checksum"
_DIGITS = 16  # of SHA-256, in hexadecimal
_LARGEST = 2**63  # no count is larger, but a damaged one may have a thousand digits


class ChecksumError(ValueError):
    """The checksum of an object, `record`, does not match its content."""

    def __init__(self, record: dict[str, object]):
        super().__init__(f"its {CHECKSUM} does not match its content")
        self.record = record


def sealed(record: Mapping[str, object]) -> dict[str, object]:
    """The record with its checksum as a last field; numbers that are not finite become None."""
    written = finite(record)
    return {**written, CHECKSUM: _checksum(written)}


def parse_object(text: str | bytes) -> dict[str, object]:
    """The JSON object in a text, without its checksum.

    Raises:
        ChecksumError: the checksum is that of another object.
        ValueError: it holds no JSON object.
    """
    try:
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ValueError(f"it is not JSON ({error})") from None
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
        if any(_nearly(name) for name in found):
            raise ValueError(f"its {CHECKSUM} is damaged")
        if CHECKSUM in found and found.pop(CHECKSUM) != _checksum(found):
            raise ChecksumError(found)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def read_object(path: pathlib.Path) -> dict[str, object]:
    """The JSON object that is a file's content, without its checksum.

    Raises:
        OSError: the file cannot be read.
        ValueError: see `parse_object`.
    """
    return parse_object(read_regular_file(path))


def write_object(path: pathlib.Path, record: Mapping[str, object]) -> None:
    """Writes the record with its checksum, atomically."""
    write_json(path, sealed(record))


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value from JSON is a finite number of a size that can be computed with."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _nearly(name: str) -> bool:
    """Whether a name differs from that of the checksum in one character only."""
    differing = sum(a != b for a, b in zip(name, CHECKSUM, strict=False))
    return len(name) == len(CHECKSUM) and differing == 1


def _checksum(record: Mapping[str, object]) -> str:
    """The checksum of the names and values in their order, whatever their layout."""
    canonical = json.dumps(record, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]
