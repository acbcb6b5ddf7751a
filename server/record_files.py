"""Files of JSON lines, one record of a step each, of which any line may be damaged.

A reader leaves damaged lines out, with a warning; a run that resumes moves them to NAME.damaged.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

from absl import logging

from kipper.common.files import append_line, read_regular_file, set_aside, write_bytes
from kipper.common.sealed import is_number, parse_object, sealed
from kipper.common.strict_json import json_text
from kipper.server.records import Facts, Json

_WARNED_OF = 5  # lines of a file


@dataclasses.dataclass(frozen=True)
class _Line:
    """A line of a file; `record` is None if it is damaged, and `damage` says how."""

    number: int
    content: bytes
    record: Json | None
    damage: str = ""


class RecordFile:
    """A file of JSON lines.

    Args:
        path: the file, which need not exist.
        kind: what a line must be, besides an object with an integer `step`.
    """

    def __init__(self, path: pathlib.Path, kind: type[Facts] | None = None):
        self._path = path
        self._kind = kind

    def read(self, is_growing: Callable[[], bool] = lambda: False) -> list[Json]:
        """The records, without those of damaged lines.

        Args:
            is_growing: asked whether a writer may just be adding the last line.
        """
        try:
            lines = self._lines()
        except OSError as error:
            logging.warning("%s cannot be read (%s).", self._path, error.strerror)
            return []
        if lines and lines[-1].record is None and is_growing():
            lines = lines[:-1]
        self._warn(lines, "is left out")
        return [line.record for line in lines if line.record is not None]

    def append(self, record: Json) -> None:
        """Adds a line with its checksum and flushes it to disk.

        Raises:
            OSError: the file cannot be written, and is as it was.
        """
        append_line(self._path, json_text(sealed(record)).encode())

    def mend(self, keep: Callable[[Json], bool] = lambda _record: True) -> None:
        """Moves damaged lines to NAME.damaged, and drops those for which `keep` is false.

        Anything that cannot be read as a file is renamed as a whole. Only the process that holds
        the workdir's lock may call this.
        """
        try:
            lines = self._lines()
        except OSError as error:
            aside = set_aside(self._path)
            reason = error.strerror
            logging.warning("%s cannot be read (%s); it is now %s.", self._path, reason, aside)
            return
        damaged = [line for line in lines if line.record is None]
        aside = self._path.with_name(f"{self._path.name}.damaged")
        self._warn(lines, f"is moved to {aside.name}")
        for line in damaged:
            append_line(aside, line.content)
        kept = [line for line in lines if line.record is not None and keep(line.record)]
        if len(kept) < len(lines):
            write_bytes(self._path, b"".join(line.content + b"\n" for line in kept))

    def _lines(self) -> list[_Line]:
        """The lines that are not empty; raises an OSError if the file cannot be read."""
        try:
            content = read_regular_file(self._path)
        except FileNotFoundError:
            return []
        found: list[_Line] = []
        seen: set[bytes] = set()
        for number, line in enumerate(content.split(b"\n"), 1):
            if line in seen:
                found.append(_Line(number, line, None, "it is there twice"))
            elif line.strip():
                seen.add(line)
                found.append(self._parsed(number, line))
        return found

    def _parsed(self, number: int, line: bytes) -> _Line:
        try:
            record = parse_object(line)
            step = record.get("step")
            if not (is_number(step) and isinstance(step, int) and step >= 0):
                raise TypeError(f"its step cannot be {step!r:.40}")
            if self._kind is not None:
                self._kind.read(record)
        except (TypeError, ValueError) as error:
            return _Line(number, line, None, str(error))
        return _Line(number, line, record)

    def _warn(self, lines: Iterable[_Line], what: str) -> None:
        damaged = [line for line in lines if line.record is None]
        for line in damaged[:_WARNED_OF]:
            logging.warning("Line %d of %s %s: %s.", line.number, self._path, what, line.damage)
        if len(damaged) > _WARNED_OF:
            more = len(damaged) - _WARNED_OF
            logging.warning("So %s each of %d more lines of %s.", what, more, self._path)
