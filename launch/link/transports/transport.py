"""What is asked of a way for bytes to travel; knows nothing of what they mean.

A server offers one function from bytes to bytes, which may be called from many threads at once. A
client calls it and gets futures. Both transports keep the same contract, which
tests/launch/link/test_transports.py states.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Protocol

from kipper.common.errors import KipperError

# Ten times the largest message of a run (docs/results.md: rows go in pieces of a megabyte, support
# images and blocks are some tens), and small enough that a few at once fit into memory: either
# side holds about three copies. Courier aborts the process that sends more than 2 GiB.
MAX_MESSAGE_BYTES = 256 * 2**20

# When a block is late is the scheduler's business, and whether a worker lives its heartbeats'.
# This only makes sure that a call to a host which vanished without a word ends at all.
CALL_SECONDS = 3600.0

Handle = Callable[[bytes], bytes]


class ChannelError(KipperError):
    """A call got no answer: nobody there, not let in, cut off, or the other side's code failed."""


class Listener(Protocol):
    """A server that listens from when it is made.

    Attributes:
        port: that it listens on.
    """

    port: int

    def close(self) -> None:
        """Takes no more calls. Those in progress may end, and are waited for a little."""
        ...


class Channel(Protocol):
    """A client of one address. Never blocks, and never takes the process down."""

    def submit(self, payload: bytes) -> "concurrent.futures.Future[bytes]":
        """Calls the server.

        The future always ends: in the answer, in a `ChannelError`, or cancelled. Its callbacks run
        on a thread that carries other answers too, so they must be short. A call that is cancelled
        is still carried out by the server.
        """
        ...

    def close(self) -> None:
        """Cancels what is in flight; may be called from anywhere, a future's callback included."""
        ...


class Transport(Protocol):
    """A way for bytes to travel: `courier` or `grpc_tls`."""

    name: str

    def listen(self, handle: Handle, port: int = 0) -> Listener:
        """Serves `handle` on every interface, at a free port if `port` is 0.

        Raises:
            UserError: the port cannot be had.
        """
        ...

    def connect(self, address: str) -> Channel:
        """A client of host:port. Connects at the first call, and again after the peer was away.

        Raises:
            UserError: `address` is not host:port.
            ChannelError: this process has too many files open.
        """
        ...
