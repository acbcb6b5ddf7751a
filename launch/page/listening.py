"""The address of the live page: listening there, its URL, and the host names it answers to."""

import contextlib
import errno
import socket

from kipper.common.errors import UserError
from kipper.common.settings import ExecutionSettings
from kipper.launch.page.token import check_token

_EVERYWHERE = ("0.0.0.0", "::")
_WHY = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "this user may not take that port",
}


def check_dashboard(settings: ExecutionSettings) -> None:
    """Raises `UserError` if the address of the page, or its token, cannot be used."""
    address = settings.dashboard_address
    if address is not None:
        check_token(settings)
        listen(*address).close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `port`, or at a free port if that is 0.

    Raises:
        UserError: the port is taken, or the host is not this machine.
    """
    try:
        family, _, _, _, at = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(at[:2], family=family)
    except OSError as error:
        why = _WHY.get(error.errno or 0, error.strerror or str(error))
        raise UserError(
            f"--dashboard={host}:{port} cannot be used: {why}; give another address, port 0 for "
            "any free port, or --dashboard=none."
        ) from error


def url_of(listener: socket.socket, token: str | None = None) -> str:
    """The URL of a listening socket, for a browser, with the token that it needs."""
    host, port = listener.getsockname()[:2]
    if host in _EVERYWHERE:
        host = socket.gethostname()
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return url if token is None else f"{url}/?token={token}"


class KnownHosts:
    """The host names that the server answers to, as a defence against DNS rebinding.

    Otherwise any web page could read the run through its visitor's browser, with a name of its own
    that it redirects to this machine.

    Args:
        names: further names of the server, as given by the user.
    """

    def __init__(self, *names: str | None):
        own = ("localhost", "127.0.0.1", "::1", socket.gethostname())
        self._names = {name.lower() for name in (*names, *own) if name}

    def knows(self, host: str, local_address: str) -> bool:
        """Whether a request is meant for this server.

        Args:
            host: the Host header, with or without a port.
            local_address: the server's end of the connection.
        """
        name = host.lower()
        with contextlib.suppress(ValueError):
            if name.rpartition(":")[2].isdigit() and not name.endswith("]"):
                name = name[: name.rindex(":")]
        name = name.strip("[]")
        return name in self._names or name == local_address.removeprefix("::ffff:")
