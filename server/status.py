"""status.json: where a run is, for whoever looks on from another process."""

import json
import os
import pathlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

_SECONDS_BETWEEN_WRITES = 0.2


class StatusWriter:
    """Keeps a small JSON object on disk, replaced whole and at most five times a second.

    Not flushed to disk: after a power cut nobody looks on.

    Args:
        path: of the file.
        written: called with all fields after each write.
    """

    def __init__(
        self,
        path: pathlib.Path,
        written: Callable[[Mapping[str, Any]], None] = lambda _fields: None,
    ):
        self._path = path
        self._tell = written
        self._fields: dict[str, Any] = {
            "state": "starting",
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._written = float("-inf")

    def update(self, now: bool = False, **fields: Any) -> None:
        """Changes fields; `now` writes them even if the last write was a moment ago."""
        self._fields.update(fields)
        if now or time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(self._fields))
            os.replace(temporary, self._path)
            self._written = time.monotonic()
            self._tell(self._fields)


def read_status(path: pathlib.Path) -> dict[str, Any]:
    """The last status written, or {} if there is none."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
