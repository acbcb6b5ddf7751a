"""Reports connections whose peers never made a call: for a listener with TLS, these are strangers.

gRPC refuses them silently: it has no hook for a failed handshake, and what it can print names no
peer. So the kernel's table of connections is compared with the peers that have called. It shows
connections that are open, and for a minute those that this side closed first, as it does when a
handshake fails or takes too long. A peer that leaves by itself is not seen.
"""

import collections
import ipaddress
import pathlib
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping

from absl import logging

_TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
_ESTABLISHED = "01"
# FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSING: this side closed first.
_CLOSED_HERE = frozenset({"04", "05", "06", "0B"})
# A handshake must be over within this time, and the kernel remembers a connection for a minute.
LOOK_SECONDS = 10.0
_SECONDS_BETWEEN_WARNINGS = 60.0
_REMEMBERED = 16384
_NAMED = 3

Peer = tuple[str, int]  # address and port


class Strangers:
    """Connections to `port` without a call.

    Args:
        port: the port of the listener.
        states: returns the state of each connection to a port, as in the kernel's table.
        clock: seconds.
    """

    def __init__(
        self,
        port: int,
        states: "Callable[[int], Mapping[Peer, str]] | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._port = port
        self._states = states or connections
        self._clock = clock
        self._callers: collections.OrderedDict[Peer, None] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._open: set[Peer] = set()
        self._counted: set[Peer] = set()
        self._untold: collections.Counter[str] = collections.Counter()
        self._told = float("-inf")

    def called(self, peer: str) -> None:
        """Notes that a peer, as gRPC names it, has made a call."""
        found = _parsed(peer)
        if found is not None:
            with self._lock:
                self._callers[found] = None
                self._callers.move_to_end(found)
                if len(self._callers) > _REMEMBERED:
                    self._callers.popitem(last=False)

    def look(self, is_last: bool = False) -> None:
        """Counts strangers that have come since the last look.

        Warns at most once a minute, or if this look is the last.
        """
        states = self._states(self._port)
        with self._lock:
            others = {peer: state for peer, state in states.items() if peer not in self._callers}
        is_open = {peer for peer, state in others.items() if state == _ESTABLISHED}
        closed = {peer for peer, state in others.items() if state in _CLOSED_HERE}
        strangers = closed | (is_open & self._open)
        self._untold.update(address for address, _ in strangers - self._counted)
        self._open, self._counted = is_open, strangers
        if is_last or self._clock() - self._told >= _SECONDS_BETWEEN_WARNINGS:
            self._tell(len(is_open))

    def _tell(self, still_open: int) -> None:
        if not self._untold:
            return
        self._told = self._clock()
        named = [f"{n} from {address}" for address, n in self._untold.most_common(_NAMED)]
        if len(self._untold) > _NAMED:
            named.append(f"the others from {len(self._untold) - _NAMED} more")
        logging.warning(
            "At least %d connections to port %d came without this run's certificate (%s); %d are "
            "open.",
            self._untold.total(),
            self._port,
            ", ".join(named),
            still_open,
        )
        self._untold.clear()


def connections(port: int) -> dict[Peer, str]:
    """The state of each TCP connection to a local port, by its peer; empty where unknown."""
    found: dict[Peer, str] = {}
    wanted = f":{port:04X}"
    for table in _TABLES:
        try:
            lines = pathlib.Path(table).read_text().splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            # "sl: address:port address:port state …", in hexadecimal
            _, local, remote, state, *_ = line.split(None, 4)
            if local.endswith(wanted):
                address, _, remote_port = remote.partition(":")
                found[_address(address), int(remote_port, 16)] = state
    return found


def _address(words: str) -> str:
    """An address from 32-bit words in hexadecimal, each in the byte order of the processor."""
    packed = b"".join(bytes.fromhex(words[i : i + 8])[::-1] for i in range(0, len(words), 8))
    return _plain(ipaddress.ip_address(packed))


def _parsed(peer: str) -> Peer | None:
    """Address and port of "ipv4:1.2.3.4:5" or "ipv6:%5B::1%5D:5"."""
    address, _, port = urllib.parse.unquote(peer).partition(":")[2].rpartition(":")
    try:
        return _plain(ipaddress.ip_address(address.strip("[]").partition("%")[0])), int(port)
    except ValueError:
        return None


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
