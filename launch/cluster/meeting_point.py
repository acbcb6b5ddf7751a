"""A file in the workdir that tells workers the coordinator's address, which may change.

It belongs to one launch, so that the file of an earlier launch is ignored.
"""

import json
import pathlib

from kipper.common.files import write_json

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
        """Announces that the coordinator is at host:port."""
        self._write(address)

    def close(self) -> None:
        """Announces that the run is over."""
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
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return ""  # a file may be missing for a moment on a shared file system
        return str(found["coordinator"]) if found["launch"] == self._launch_id else None
