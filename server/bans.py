"""Workers that computed wrong numbers, kept in a file so that no restart lets them return."""

import dataclasses
import pathlib

from absl import logging

from kipper.common.errors import WriteError
from kipper.common.files import set_aside
from kipper.common.sealed import read_object, write_object


@dataclasses.dataclass(frozen=True)
class Ban:
    """Why a worker is banned.

    Attributes:
        reason: the reason, for the user.
        host: where it ran, for the user.
        certificate: the fingerprint of the worker's own certificate; empty if it has none, or one
            that others use too.
    """

    reason: str
    host: str = ""
    certificate: str = ""


class Bans:
    """The banned workers of a run, by name.

    A worker is recognised by its certificate, if it has one of its own, and by its name. Its host
    does not count, because a container has another address after a restart.

    Args:
        path: the file; None to forget the bans at the end.
    """

    def __init__(self, path: pathlib.Path | None = None):
        self._path = path
        self._bans = _read(path) if path is not None and path.exists() else {}

    @property
    def workers(self) -> set[str]:
        """The names of banned workers."""
        return set(self._bans)

    def why(self, worker: str, certificate: str = "") -> str | None:
        """Why a worker is banned; None if it is not."""
        for name, ban in list(self._bans.items()):
            if name == worker or (certificate and certificate == ban.certificate):
                return ban.reason
        return None

    def add(self, worker: str, ban: Ban) -> None:
        """Bans a worker."""
        self._bans[worker] = ban
        if self._path is None:
            return
        record = {name: dataclasses.asdict(each) for name, each in self._bans.items()}
        try:
            write_object(self._path, record)
        except WriteError as error:
            logging.warning("The ban of worker %s ends with this process: %s", worker, error)


def _read(path: pathlib.Path) -> dict[str, Ban]:
    try:
        found = {name: _ban(record) for name, record in read_object(path).items()}
    except (OSError, ValueError, TypeError) as error:
        logging.warning(
            "%s is damaged (%s), so banned workers may join again; it is now %s.",
            path,
            error,
            set_aside(path),
        )
        return {}
    if found:
        logging.warning(
            "Banned for wrong numbers: %s. To admit them again, delete %s.",
            ", ".join(found),
            path,
        )
    return found


def _ban(record: object) -> Ban:
    if not isinstance(record, dict) or not all(isinstance(each, str) for each in record.values()):
        raise ValueError("it holds something else than bans")
    return Ban(**record)
