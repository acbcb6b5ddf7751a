"""A file in the workdir that tells workers the coordinator's address, which may change.

It belongs to one launch, so that the file of an earlier launch is ignored.
"""

import pathlib

from kipper.common.errors import UserError
from kipper.common.files import write_json
from kipper.common.sealed import parse_object

_OVER = "over"


class MeetingPoint:
    """The file, as one launch uses it."""

    def __init__(self, workdir: str, launch_id: str):
        self._path = pathlib.Path(workdir) / "coordinator.json"
        self._launch_id = launch_id

    def open(self) -> None:
        """Announces the launch, whose coordinator has not started yet."""
        self._write("")

    def arrive(self, address: str) -> None:
        """Announces that the coordinator is at host:port.

        Raises:
            UserError: a later launch uses the workdir, whose workers must not come here.
        """
        if self._read() is None:
            raise UserError(f"A later launch uses {self._path.parent}, so this one ends.")
        self._write(address)

    def close(self) -> None:
        """Announces that the run is over, unless a later launch uses the workdir."""
        if self._read() is not None:
            self._write(_OVER)

    def address(self) -> str | None:
        """The coordinator's host:port; None before it started and after the run."""
        content = self._read()
        return content if content and content != _OVER else None

    def is_over(self) -> bool:
        """Whether the run is over, or a later launch uses the workdir."""
        return self._read() in (_OVER, None)

    def _write(self, content: str) -> None:
        write_json(self._path, {"launch": self._launch_id, "coordinator": content})

    def _read(self) -> str | None:
        """The content that this launch wrote; None if another launch wrote it."""
        try:
            found = parse_object(self._path.read_bytes())
        except (OSError, ValueError):
            return ""  # a file may be missing for a moment on a shared file system
        match found:
            case {"launch": self._launch_id, "coordinator": str(content)}:
                return content
            case {"launch": str(), "coordinator": str()}:
                return None
        return ""
