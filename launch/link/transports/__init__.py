"""Transports of bytes between coordinator and workers; `transport.py` is their contract."""

import typing

from kipper.common.errors import UserError
from kipper.common.settings import TransportName
from kipper.common.this_python import INSTALL_SERVICE, check_launchpad
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
    check_courier(name)
    check_certificates(name, certificates)
    if name == "courier":
        from kipper.launch.link.transports.courier import CourierTransport

        return CourierTransport()
    try:
        from kipper.launch.link.transports.grpc_tls import GrpcTlsTransport
    except ModuleNotFoundError as error:
        raise UserError(
            f"--transport={name} needs {error.name}, which is not installed: {INSTALL_SERVICE}."
        ) from error
    assert certificates is not None
    return GrpcTlsTransport(certificates)


def check_courier(name: str) -> None:
    """Checks that this Python has the transport of that name.

    Raises:
        UserError: it is courier, which comes with Launchpad.
    """
    if name == "courier":
        check_launchpad(
            "--transport=courier",
            "give --transport=grpc_tls with --certificates=DIR, made by kipper certificates DIR",
        )


def check_certificates(name: str, certificates: str | None) -> None:
    """Checks that certificates are given to the transport that needs them.

    Raises:
        UserError: they are not.
    """
    if name == "grpc_tls" and not certificates:
        raise UserError(
            "--transport=grpc_tls needs --certificates=DIR, a folder made by "
            "kipper certificates DIR."
        )
