"""Addresses as host:port, free ports, and whether somebody listens there."""

import re
import socket
import time
from collections.abc import Callable

from kipper.common.errors import UserError, WorkerError

_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:.%\w]+\]):(?P<port>\d{1,5})", re.ASCII)


def split_address(address: str) -> tuple[str, int]:
    """Host (of an IPv6 address without its brackets) and port.

    Raises:
        UserError: not host:port.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 2**16:
        raise UserError(f"{address!r} is not an address of the form HOST:PORT.")
    return match["host"].strip("[]"), int(match["port"])


def free_port() -> int:
    """A port that was free a moment ago, on IPv4 and IPv6 alike; another may take it still."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.create_server(
        ("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6
    ) as server:
        return int(server.getsockname()[1])


def is_listening(address: str, seconds: float = 0.5) -> bool:
    """Whether a TCP connection to `address` is taken within `seconds`.

    To be asked before a first call: a call to a closed port starts gRPC's back-off, which then
    delays the first call that could succeed, with Courier by up to half a minute.
    """
    try:
        socket.create_connection(split_address(address), seconds).close()
    except OSError:
        return False
    return True


def wait_until_listening(address: str, seconds: float, should_stop: Callable[[], bool]) -> None:
    """Waits for somebody to listen at `address`.

    Raises:
        WorkerError: nobody did for `seconds`, or `should_stop()` became true.
    """
    deadline = time.monotonic() + seconds
    while not is_listening(address):
        if should_stop() or time.monotonic() > deadline:
            raise WorkerError(f"Nothing listened at {address} within {seconds:.0f} s.")
        time.sleep(0.1)
