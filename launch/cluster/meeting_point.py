"""Where workers learn the coordinator's address if that changes: a file in the workdir.

It belongs to one launch, so that what an earlier one left behind misleads nobody.
"""

import json
import pathlib

from kipper.common.files import write_json

_OVER = "over"


class MeetingPoint:
    """The file, as one launch sees it."""

    def __init__(self, workdir: str, launch_id: str):
        self._path = pathlib.Path(workdir) / "coordinator.json"
        self._launch_id = launch_id

    def open(self) -> None:
        """There is a launch; its coordinator has not started yet."""
        self._write("")

    def arrive(self, address: str) -> None:
        """The coordinator is at host:port from now on."""
        self._write(address)

    def close(self) -> None:
        """The run is over; nobody need wait."""
        self._write(_OVER)

    def address(self) -> str | None:
        """The coordinator's host:port; None before it started, and once the run is over."""
        content = self._read()
        return content if content and content != _OVER else None

    def is_over(self) -> bool:
        """Whether the run is over, or the workdir has been given to a later launch."""
        return self._read() in (_OVER, None)

    def _write(self, content: str) -> None:
        write_json(self._path, {"launch": self._launch_id, "coordinator": content})

    def _read(self) -> str | None:
        """What this launch wrote; None if another did."""
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return ""  # a shared file system may lose sight of a file for a moment
        return str(found["coordinator"]) if found["launch"] == self._launch_id else None
