"""Checks that Courier may listen on this machine's networks.

Courier listens on every interface in plain text and executes what it receives; no option changes
that (docs/security.md). So a run that other hosts may join is refused on a machine with a public
address, unless the user vouches for a firewall.
"""

import ipaddress
import socket

from absl import logging

from kipper.common.errors import UserError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_open_network(transport: str, allow_open_network: bool, host: str | None = None) -> None:
    """Refuses Courier on public networks, and warns on private ones.

    A coordinator that workers of other hosts may join calls this, and so does such a worker.

    Args:
        transport: a `TransportName`; only courier is refused.
        allow_open_network: the user vouches for a firewall.
        host: this machine's name for others; it reveals a public address that is translated to a
            private one, as in most clouds.

    Raises:
        UserError: this machine has a public address.
    """
    if transport != "courier":
        return
    addresses = _interface_addresses()
    public = [address for address in (*addresses, *_resolved(host)) if address.is_global]
    if public and not allow_open_network:
        raise UserError(
            f"Courier would listen on the public address {public[0]} and execute what anybody "
            "sends; use --transport=grpc_tls --certificates=DIR, or --allow_open_network if a "
            "firewall closes the port."
        )
    _warn(addresses)


def warn_of_open_ports(transport: str) -> None:
    """Warns that the ports of a run on this machine alone are open on every interface.

    Such a run is not refused: its ports are random, and closed when it ends.
    """
    if transport == "courier":
        _warn(_interface_addresses())


def is_loopback(host: str) -> bool:
    """Whether `host` can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _warn(addresses: list[_Address]) -> None:
    if addresses:
        logging.warning(
            "Courier listens in plain text on every interface, including %s: anyone who can "
            "reach these ports can run programs here. docs/security.md explains what to do.",
            ", ".join(map(str, addresses)),
        )


def _interface_addresses() -> list[_Address]:
    """Addresses of this machine's interfaces that other machines may reach."""
    import psutil

    found = [
        ipaddress.ip_address(entry.address.partition("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return [address for address in found if not (address.is_loopback or address.is_link_local)]


def _resolved(host: str | None) -> list[_Address]:
    """The addresses of `host`; empty if it cannot be resolved."""
    try:
        entries = socket.getaddrinfo(host, None) if host else []
    except OSError:
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
