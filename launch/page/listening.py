"""The address of the live page: whether it can be had, and what it is called."""

import contextlib
import errno
import socket

from kipper.common.errors import UserError
from kipper.common.settings import RunSettings

_EVERYWHERE = ("0.0.0.0", "::")
_WHY = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "this user may not take that port",
}


def check_dashboard(settings: RunSettings) -> None:
    """Refuses an address that cannot be had.

    Raises:
        UserError: as `listen`.
    """
    address = settings.dashboard_address
    if address is not None:
        listen(*address).close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `port`, or at a free one if that is 0; not yet served.

    Raises:
        UserError: the port is taken, or the host is not this one.
    """
    try:
        family, _, _, _, at = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(at[:2], family=family)
    except OSError as error:
        why = _WHY.get(error.errno or 0, error.strerror or str(error))
        raise UserError(
            f"--dashboard={host}:{port} cannot be had: {why}; give another address, port 0 for a "
            "free one, or --dashboard=none."
        ) from error


def url_of(listener: socket.socket) -> str:
    """Where a browser finds what listens there."""
    host, port = listener.getsockname()[:2]
    if host in _EVERYWHERE:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class KnownHosts:
    """The hosts that this server may be asked for, lest a stranger's name be made to mean it.

    A page from anywhere could otherwise read the run through its visitor's browser, by a name of
    its own that comes to mean this machine (DNS rebinding).

    Args:
        names: by which the server was asked to be known.
    """

    def __init__(self, *names: str | None):
        own = ("localhost", "127.0.0.1", "::1", socket.gethostname())
        self._names = {name.lower() for name in (*names, *own) if name}

    def knows(self, host: str, local_address: str) -> bool:
        """Whether a request for `host`, as its header says it, is meant for this server.

        Args:
            host: with or without a port.
            local_address: of the connection, at this end.
        """
        name = host.lower()
        with contextlib.suppress(ValueError):
            if name.rpartition(":")[2].isdigit() and not name.endswith("]"):
                name = name[: name.rindex(":")]
        name = name.strip("[]")
        return name in self._names or name == local_address.removeprefix("::ffff:")
