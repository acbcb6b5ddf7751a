"""Transports of bytes between coordinator and workers; `transport.py` is their contract."""

import typing

from kipper.common.errors import UserError
from kipper.common.settings import TransportName
from kipper.launch.link.transports.transport import Transport


def transport_named(name: str, certificates: str | None = None) -> Transport:
    """The transport of that name.

    Args:
        name: a `TransportName`.
        certificates: folder made by `kipper certificates`, required for grpc_tls.

    Raises:
        UserError: the name is unknown, a package is missing, or the certificates cannot be used.
    """
    known = typing.get_args(TransportName)
    if name not in known:
        raise UserError(f"--transport is {name!r}; it must be one of {', '.join(known)}.")
    try:
        if name == "courier":
            from kipper.launch.link.transports.courier import CourierTransport

            return CourierTransport()
        from kipper.launch.link.transports.grpc_tls import GrpcTlsTransport
    except ModuleNotFoundError as error:
        raise UserError(
            f"--transport={name} needs {error.name}, which kipper installs on Python 3.10."
        ) from error
    if not certificates:
        raise UserError(
            "--transport=grpc_tls needs --certificates=DIR, a folder made by "
            "kipper certificates DIR."
        )
    return GrpcTlsTransport(certificates)
