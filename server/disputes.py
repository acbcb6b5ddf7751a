"""Disputes that are not decided yet, kept in a file while they are open.

If the coordinator is killed meanwhile, the file stays, and the next coordinator knows which
workers' numbers are in doubt.
"""

import pathlib
from collections.abc import Sequence

from absl import logging

from kipper.common.errors import WriteError
from kipper.common.files import set_aside
from kipper.common.sealed import read_object, write_object

# For each dispute the workers that gave different answers, grouped by equal ones.
Disputes = list[list[list[str]]]


class OpenDisputes:
    """The file of open disputes; None to keep none.

    Attributes:
        left: the disputes that an earlier coordinator left open.
    """

    def __init__(self, path: pathlib.Path | None = None):
        self._path = path
        self._written: Disputes = []
        self.left: Disputes = []
        if path is not None and path.exists():
            self.left = self._written = _read(path)

    def now(self, disputes: Disputes) -> None:
        """Records that these disputes, and no others, are open."""
        if self._path is None or disputes == self._written:
            return
        self._written = [[[*group] for group in dispute] for dispute in disputes]
        try:
            if disputes:
                write_object(self._path, {"disputes": disputes})
            else:
                self._path.unlink(missing_ok=True)
        except (OSError, WriteError) as error:
            logging.warning("A coordinator that is killed now forgets a dispute: %s", error)


def _read(path: pathlib.Path) -> Disputes:
    try:
        disputes = read_object(path)["disputes"]
        return [[_names(group) for group in _listed(dispute)] for dispute in _listed(disputes)]
    except (KeyError, OSError, ValueError) as error:
        logging.warning(
            "%s is damaged (%s), so it is not known whose answers differed; it is now %s.",
            path,
            error,
            set_aside(path),
        )
        return []


def _names(group: object) -> list[str]:
    return [str(name) for name in _listed(group)]


def _listed(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise ValueError("it holds something else than disputes")
    return value
