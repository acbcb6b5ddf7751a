"""Addresses as host:port, free ports, and whether a port is listened on."""

import re
import socket

from kipper.common.errors import UserError

_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:.%\w]+\]):(?P<port>\d{1,5})", re.ASCII)


def split_address(address: str) -> tuple[str, int]:
    """Host, without the brackets of an IPv6 address, and port.

    Raises:
        UserError: not host:port.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 2**16:
        raise UserError(f"{address!r} is not an address of the form HOST:PORT.")
    return match["host"].strip("[]"), int(match["port"])


def free_port() -> int:
    """A port that was free a moment ago on IPv4 and IPv6; another process may take it any time."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.create_server(
        ("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6
    ) as server:
        return int(server.getsockname()[1])


def is_listening(address: str, seconds: float = 0.5) -> bool:
    """Whether a TCP connection to `address` is accepted within `seconds`.

    Check this before a first call: a call to a closed port starts gRPC's back-off, which delays the
    first call that could succeed, with Courier by up to half a minute.
    """
    try:
        socket.create_connection(split_address(address), seconds).close()
    except OSError:
        return False
    return True
