"""User-defined networks, as FILE.py:FUNCTION, identified by the file's hash.

Files are never sent. Messages carry the name and hash of a file, and a process only runs files that
its own user has named.
"""

import dataclasses
import hashlib
import os
import re

from kipper.common.errors import UserError

_REFERENCE = re.compile(
    r"(?P<path>.+\.py):(?P<function>[A-Za-z_]\w*)(?:#(?P<sha256>[0-9a-f]{64}))?"
)


@dataclasses.dataclass(frozen=True)
class NetworkFile:
    """A network that a function of a Python file makes.

    Attributes:
        path: absolute.
        function: its name; it takes no arguments and returns what `stax.serial` returns.
        source: the file's bytes, read when the user named it.
    """

    path: str
    function: str
    source: bytes = dataclasses.field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source).hexdigest()

    @property
    def title(self) -> str:
        """File and function, without folder and hash."""
        return f"{os.path.basename(self.path)}:{self.function}"

    @property
    def name(self) -> str:
        """The name in messages: without the folder, which differs between hosts."""
        return f"{self.title}#{self.sha256}"


# The files that this process's user has named, by `name`. This process runs no others.
NAMED_FILES: dict[str, NetworkFile] = {}


def is_network_file(name: str) -> bool:
    """Whether the name of an architecture refers to a file."""
    return ".py" in name


def network_file(reference: str) -> NetworkFile:
    """Reads the file of FILE.py:FUNCTION or FILE.py:FUNCTION#SHA256, and permits running it.

    Raises:
        UserError: the reference is malformed, or the file cannot be read or has another hash.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UserError(
            f"{reference!r} does not name a network; write FILE.py:FUNCTION, as in nets.py:make."
        )
    try:
        with open(match["path"], "rb") as file:
            source = file.read()
    except OSError as error:
        raise UserError(
            f"The network's file {match['path']} cannot be read ({error.strerror})."
        ) from error
    found = NetworkFile(os.path.abspath(match["path"]), match["function"], source)
    if match["sha256"] not in (None, found.sha256):
        raise UserError(
            f"{match['path']} has changed: its SHA-256 is {found.sha256}, expected "
            f"{match['sha256']}; restore the file, or leave out the hash."
        )
    NAMED_FILES[found.name] = found
    return found


def with_hashes(architectures: str) -> str:
    """Comma-separated architectures, with the current hash added to each file.

    Raises:
        UserError: see `network_file`.
    """
    return ",".join(
        f"{name.partition('#')[0]}#{network_file(name).sha256}" if is_network_file(name) else name
        for name in architectures.split(",")
    )


def without_hashes(architectures: str) -> str:
    """The inverse of `with_hashes`."""
    return re.sub("#[0-9a-f]{64}", "", architectures)


def named_here(name: str) -> NetworkFile:
    """The file that another process calls `name`, if this process's user has named it.

    Raises:
        UserError: no such file was named here, or its content differs.
    """
    match = _REFERENCE.fullmatch(name)
    if match is None or match["sha256"] is None or os.path.basename(match["path"]) != match["path"]:
        raise UserError(f"{name[:200]!r} is not a valid name of a network file.")
    if name in NAMED_FILES:
        return NAMED_FILES[name]
    title = f"{match['path']}:{match['function']}"
    for other in NAMED_FILES.values():
        if other.title == title:
            raise UserError(
                f"{other.path} differs from the coordinator's file of that name; copy that file "
                "here and restart the worker."
            )
    raise UserError(
        f"The run's network is {title}, which this worker does not have; copy the file here and "
        f"start the worker with --architecture=FOLDER/{title}."
    )
