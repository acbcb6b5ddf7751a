"""How bytes travel between coordinator and workers; `transport.py` says what is asked of a way."""

from kipper.launch.transports.transport import (
    MAX_MESSAGE_BYTES,
    TRANSPORTS,
    Channel,
    ChannelError,
    Handle,
    Listener,
    Transport,
    transport_named,
)

__all__ = [
    "MAX_MESSAGE_BYTES",
    "TRANSPORTS",
    "Channel",
    "ChannelError",
    "Handle",
    "Listener",
    "Transport",
    "transport_named",
]
