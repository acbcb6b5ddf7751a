"""The folder of a run: one that the user named, or a temporary one that ends with its holders."""

import os
import pathlib
import shutil
import tempfile
import weakref

from kipper.common.errors import UserError


class RunFolder:
    """A run's folder.

    A temporary one is removed when nothing holds this object any more, at the latest when Python
    exits. Pickling keeps the path alone.

    Args:
        path: where the user wants it; None for a temporary folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None):
        self.is_temporary = path is None
        if path is None:
            self.path = pathlib.Path(tempfile.mkdtemp(prefix="kipper-"))
            weakref.finalize(self, _remove, self.path, os.getpid())
        else:
            self.path = as_path(path, "workdir")

    def __reduce__(self) -> tuple[type["RunFolder"], tuple[str]]:
        return RunFolder, (str(self.path),)


def as_path(path: object, name: str) -> pathlib.Path:
    """The path that a user gave as the argument `name`, with ~ for the home folder.

    Raises:
        UserError: it is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{name} is {path!r:.60}; it must be a path.")
    return pathlib.Path(path).expanduser()


def _remove(path: pathlib.Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a process that was forked from this one
        shutil.rmtree(path, ignore_errors=True)
