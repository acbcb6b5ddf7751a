"""The contract of a transport of bytes, which knows nothing of their meaning.

A server offers one function from bytes to bytes, which many threads may call at once. A client
calls it and gets futures. tests/launch/link/test_transports.py tests the contract of both
transports.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Protocol

from kipper.common.errors import KipperError

# Ten times the largest message of a run (rows go in pieces of 4 MiB, support images and blocks
# have some tens), and small enough for memory: each side holds about three copies
# of a few messages at once. Courier aborts a process that sends more than 2 GiB.
MAX_MESSAGE_BYTES = 256 * 2**20

# Late blocks are the scheduler's concern, and dead workers the registry's. This only ensures that a
# call to a vanished host ends.
CALL_SECONDS = 3600.0

Handle = Callable[[bytes], bytes]


class ChannelError(KipperError):
    """A call got no answer: no server, no permission, a lost connection, or a failure there."""


class WrongCertificate(ChannelError):
    """The peer's certificate is of another run, or not valid now."""


class Listener(Protocol):
    """A server that listens from its construction on.

    Attributes:
        port: the port that it listens on.
    """

    port: int

    def close(self) -> None:
        """Accepts no more calls, and waits a little for those in progress."""
        ...


class Channel(Protocol):
    """A client of one address. Never blocks, and never takes the process down."""

    def submit(self, payload: bytes) -> "concurrent.futures.Future[bytes]":
        """Calls the server.

        The future always ends: with the answer, with a `ChannelError`, or cancelled. Its callbacks
        run on a thread that delivers other answers too, so they must be short. The server still
        carries out a cancelled call.
        """
        ...

    def close(self) -> None:
        """Cancels calls in flight; may be called from anywhere, even a future's callback."""
        ...


class Transport(Protocol):
    """A transport: `courier` or `grpc_tls`."""

    name: str

    def listen(self, handle: Handle, port: int = 0) -> Listener:
        """Serves `handle` on every interface, at a free port if `port` is 0.

        Raises:
            UserError: the port cannot be listened on.
        """
        ...

    def connect(self, address: str) -> Channel:
        """A client of host:port. Connects at the first call, and again after a lost connection.

        Raises:
            UserError: `address` is not host:port.
            ChannelError: this process has too many open files.
        """
        ...
