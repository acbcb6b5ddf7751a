"""Networks that a user wrote, as FILE.py:FUNCTION: which file, and that it is everywhere the same.

A file never travels. Messages carry its name and its hash, and a process runs only what its own
user has named: what another process asks for is looked up among that.
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
    """A network made by a function of a Python file; as a layer of an architecture, all of it.

    Attributes:
        path: absolute.
        function: called without arguments, returns what `stax.serial` does.
        source: the file's bytes, as they were read when the user named it.
    """

    path: str
    function: str
    source: bytes = dataclasses.field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source).hexdigest()

    @property
    def title(self) -> str:
        """For people: file and function, without folder and hash."""
        return f"{os.path.basename(self.path)}:{self.function}"

    @property
    def name(self) -> str:
        """By which processes speak of it: without the folder, which each has its own."""
        return f"{self.title}#{self.sha256}"


# Those that this process's user has named, by `name`. Whoever computes in this process, workers in
# threads too, may run these and no others.
NAMED_FILES: dict[str, NetworkFile] = {}


def is_network_file(name: str) -> bool:
    """Whether an architecture's name is meant for a file."""
    return ".py" in name


def network_file(reference: str) -> NetworkFile:
    """Reads the file of FILE.py:FUNCTION, or of FILE.py:FUNCTION#SHA256 if it is that one still.

    From now on this process may run it.

    Raises:
        UserError: one sentence says what is wrong with the reference or the file.
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
            f"{match['path']}, which is to make the network, cannot be read ({error.strerror})."
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
    """Names of architectures with commas between, each file's with its hash as it is now.

    Raises:
        UserError: as `network_file`.
    """
    return ",".join(
        f"{name.partition('#')[0]}#{network_file(name).sha256}" if is_network_file(name) else name
        for name in architectures.split(",")
    )


def without_hashes(architectures: str) -> str:
    """What `with_hashes` was given."""
    return re.sub("#[0-9a-f]{64}", "", architectures)


def named_here(name: str) -> NetworkFile:
    """The file that another process calls `name`, if this process's user has named the same.

    Raises:
        UserError: none of that name was named here, or one of other content.
    """
    match = _REFERENCE.fullmatch(name)
    if match is None or match["sha256"] is None or os.path.basename(match["path"]) != match["path"]:
        raise UserError(f"{name[:200]!r} is no name of a network that a worker can be asked for.")
    if name in NAMED_FILES:
        return NAMED_FILES[name]
    title = f"{match['path']}:{match['function']}"
    for other in NAMED_FILES.values():
        if other.title == title:
            raise UserError(
                f"{other.path} is not the file that the coordinator has by that name; copy that "
                "one here and start the worker again."
            )
    raise UserError(
        f"The run's network is {title}, which this worker was not given; copy the file here and "
        f"start the worker with --architecture=FOLDER/{title}."
    )
