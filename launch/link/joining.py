"""Opens a run to workers outside this process, as its settings allow."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from absl import logging

from kipper.common.settings import ExecutionSettings
from kipper.launch.link.chaos import with_faults
from kipper.launch.link.open_network import check_open_network, is_loopback, warn_of_open_ports
from kipper.launch.link.registry import open_registry
from kipper.launch.link.remote_link import RemoteLink
from kipper.launch.link.transports import transport_named
from kipper.launch.link.transports.addresses import split_address
from kipper.launch.link.transports.transport import Transport
from kipper.server.pool import Pool
from kipper.server.protocol import WorkerLink


def check_joining(settings: ExecutionSettings) -> None:
    """Checks that workers can join, and that the network is safe, if the settings open a port.

    Raises:
        UserError: certificates or a library are missing, or the network is open.
    """
    if settings.port is None and settings.launch in ("inprocess", "ray"):
        return
    transport_named(settings.transport, settings.certificates)
    # Without own workers the run waits for workers of other hosts, as under kipper launch.
    if settings.port is not None or settings.fixed_workers == 0:
        check_open_network(settings.transport, settings.allow_open_network, settings.host)


def workers_joining(
    settings: ExecutionSettings, port: int
) -> Callable[[Pool], AbstractContextManager[None]]:
    """A context manager of a pool, in which workers can join the pool at `port`."""

    @contextlib.contextmanager
    def joining(pool: Pool) -> Iterator[None]:
        if settings.port is None and settings.fixed_workers > 0:
            warn_of_open_ports(settings.transport)
        transport = transport_named(settings.transport, settings.certificates)
        with open_registry(pool, connecting(settings, transport), transport, port):
            logging.info("Workers can join at port %d by %s.", port, settings.transport)
            yield

    return joining


def connecting(
    settings: ExecutionSettings, transport: Transport
) -> Callable[[str, str], WorkerLink]:
    """Makes links to workers, by name and address, over the transport."""

    def connect(name: str, address: str) -> WorkerLink:
        link = RemoteLink(name, transport.connect(address), host_of(address))
        return with_faults(link, settings.faults, settings.fixed_workers)

    return connect


def host_of(address: str) -> str:
    """The host of a worker's address, for display."""
    host, _ = split_address(address)
    return socket.gethostname() if is_loopback(host) else host
