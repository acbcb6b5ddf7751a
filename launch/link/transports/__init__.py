"""Transports of bytes between coordinator and workers; `transport.py` is their contract."""

from kipper.launch.link.transports.choice import transport_named
from kipper.launch.link.transports.transport import (
    MAX_MESSAGE_BYTES,
    Channel,
    ChannelError,
    Handle,
    Listener,
    Transport,
)

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Channel",
    "ChannelError",
    "Handle",
    "Listener",
    "Transport",
    "transport_named",
]
