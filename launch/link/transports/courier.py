"""Bytes over Courier, such that no failure of the peer can abort this process.

For loopback and closed networks only: Courier listens on every interface in plain text and executes
what it receives (docs/security.md).
"""

import atexit
import concurrent.futures
import datetime
import threading
import time
from typing import Any

import courier
from courier.python.client import StatusNotOk, translate_status

from kipper.common.errors import UserError
from kipper.launch.link.transports.addresses import free_port, split_address
from kipper.launch.link.transports.open_files import check_files_left
from kipper.launch.link.transports.pending import PendingCalls, checked
from kipper.launch.link.transports.threads import DaemonThreads
from kipper.launch.link.transports.transport import CALL_SECONDS, Handle
from kipper.launch.processes.process import forget_proxies

_METHOD = "handle"
# Time for calls in progress when a listener closes. Courier would wait without limit.
_CLOSE_SECONDS = 5.0
_EXIT_SECONDS = 1.0
_CLOSING = "courier-close"
# A port found free may be taken before Courier listens there.
_ATTEMPTS = 10


class CourierTransport:
    """One Courier method that takes and returns bytes.

    Other arguments are impossible: Courier's server hangs on a numpy value.
    """

    name = "courier"

    def __init__(self) -> None:
        forget_proxies()

    def listen(self, handle: Handle, port: int = 0) -> "CourierListener":
        for _ in range(_ATTEMPTS):
            chosen = port or free_port()
            try:
                return CourierListener(handle, chosen)
            except StatusNotOk:
                if port:
                    break
        raise UserError(f"Port {chosen} cannot be listened on; does another program use it?")

    def connect(self, address: str) -> "CourierChannel":
        split_address(address)
        check_files_left()
        return CourierChannel(address)


class CourierListener:
    """A Courier server.

    It serves until it is closed, and is referenced here until then: deleting Courier's server waits
    without limit for calls in progress.
    """

    def __init__(self, handle: Handle, port: int):
        self.port = port
        self._server: Any = courier.Server(port=port)
        self._server.Bind(_METHOD, _on_python_thread(checked(handle)))
        self._server.Start()
        _listening.add(self)

    def close(self) -> None:
        stopping = threading.Thread(target=self._stop, daemon=True)
        stopping.start()
        stopping.join(_CLOSE_SECONDS)

    def _stop(self) -> None:
        self._server.Stop()
        _listening.discard(self)


class CourierChannel:
    """A Courier client.

    Courier's own futures abort the process when a result arrives for a cancelled future, and when
    the client is deleted with calls in flight or by its own callback. So callbacks that tolerate
    cancelling receive results, this module references open channels, and a separate thread deletes
    a closed one.
    """

    def __init__(self, address: str):
        # A call that waits for readiness would silently run again on a restarted server.
        self._client: Any = courier.Client(address, wait_for_ready=False)
        self._calls = PendingCalls(address)
        _open.add(self)

    def submit(self, payload: bytes) -> "concurrent.futures.Future[bytes]":
        def send(future: "concurrent.futures.Future[bytes]") -> Any:
            return self._client._client.AsyncPyCall(
                _METHOD,
                [payload],
                {},
                lambda answer: self._calls.answer(future, answer),
                lambda status: self._calls.fail(future, str(translate_status(status))),
                False,  # wait_for_ready
                datetime.timedelta(seconds=CALL_SECONDS),
                False,  # compress
                False,  # chunk_tensors
            ).Cancel

        return self._calls.begin(payload, send)

    def close(self) -> None:
        if self._calls.close():
            _open.discard(self)
            clients, self._client = [self._client], None
            # Deleting a client waits for the callbacks of its calls; this may run in one of them.
            threading.Thread(target=clients.clear, name=_CLOSING).start()


_listening: set[CourierListener] = set()
_open: set[CourierChannel] = set()
_threads = DaemonThreads("courier-call")
_exiting = threading.Event()


def _on_python_thread(handle: Handle) -> Handle:
    """`handle`, run on a Python thread instead of the calling thread, which is Courier's.

    A Courier thread that needs the interpreter while that exits aborts the process. Here it sleeps,
    and is not woken once the exit has begun.
    """

    def carry_out(payload: bytes) -> bytes:
        try:
            return handle(payload)
        finally:
            if _exiting.is_set():
                threading.Event().wait()

    return lambda payload: _threads.submit(carry_out, payload).result()


@atexit.register
def _close_all() -> None:
    """Closes servers and channels that would delay or abort the exit."""
    _exiting.set()
    threads = [
        threading.Thread(target=listener._stop, daemon=True) for listener in list(_listening)
    ]
    for thread in threads:
        thread.start()  # accepts no more calls from now on
    for channel in list(_open):
        channel.close()
    threads += [thread for thread in threading.enumerate() if thread.name == _CLOSING]
    deadline = time.monotonic() + _EXIT_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
