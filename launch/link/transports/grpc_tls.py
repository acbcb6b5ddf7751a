"""Bytes over gRPC with mutual TLS: only holders of this run's certificate can connect.

Handlers have no serialisers: messages stay bytes, nothing is unpickled.
"""

import concurrent.futures
import datetime
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from absl import logging

from kipper.common import logs
from kipper.common.errors import UserError
from kipper.launch.link.certificates import NAME, ExpiryNotice, expiry_of, read_certificates
from kipper.launch.link.transports import caller
from kipper.launch.link.transports.addresses import split_address
from kipper.launch.link.transports.open_files import check_files_left, max_incoming_connections
from kipper.launch.link.transports.pending import PendingCalls, checked
from kipper.launch.link.transports.strangers import LOOK_SECONDS, Strangers
from kipper.launch.link.transports.threads import DaemonThreads
from kipper.launch.link.transports.transport import (
    CALL_SECONDS,
    MAX_MESSAGE_BYTES,
    ChannelError,
    Handle,
    WrongCertificate,
)

_METHOD = "/kipper/handle"
_VERIFY_FAILED = "CERTIFICATE_VERIFY_FAILED"
_CLOSE_SECONDS = 5.0
# Each call holds a thread and up to one message, so a flood of calls needs bounded memory.
_MAX_CALLS = 256

_LIMITS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 8192),
]
# Calls to a vanished host or a frozen process fail in about 80 seconds instead of at their
# deadline; a handler that holds Python's lock for longer does not fail.
_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
_SERVER_OPTIONS = [
    *_LIMITS,
    *_KEEPALIVE,
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # permits the client's pings
    ("grpc.so_reuseport", 0),  # refuse a port in use instead of sharing it
    ("grpc.server_handshake_timeout_ms", 10_000),
]
_CLIENT_OPTIONS = [
    *_LIMITS,
    *_KEEPALIVE,
    # The hosts of workers are not known beforehand, so all have one name. Peers are trusted for one
    # reason only: the run's own authority signed their certificate.
    ("grpc.ssl_target_name_override", NAME),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # the scheduler decides what is sent again
    ("grpc.use_local_subchannel_pool", 1),  # channels do not share back-off
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # time for one attempt to connect
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class GrpcTlsTransport:
    """gRPC with mutual TLS.

    Args:
        certificates: folder made by `kipper certificates`.

    Raises:
        UserError: a file is missing or cannot be used.
    """

    name = "grpc_tls"

    def __init__(self, certificates: str):
        own = read_certificates(certificates)
        self._expires = expiry_of(own)
        self._own = caller.fingerprint(own.certificate)
        self._server_credentials = grpc.ssl_server_credentials(
            [(own.key, own.certificate)], root_certificates=own.authority, require_client_auth=True
        )
        self._channel_credentials = grpc.ssl_channel_credentials(
            own.authority, own.key, own.certificate
        )

    def listen(self, handle: Handle, port: int = 0) -> "GrpcListener":
        return GrpcListener(handle, port, self._server_credentials, self._expires, self._own)

    def connect(self, address: str) -> "GrpcChannel":
        split_address(address)
        check_files_left()
        return GrpcChannel(address, self._channel_credentials)


_threads = DaemonThreads("grpc-call")


class GrpcListener:
    """A gRPC server of one method. `own` is the fingerprint of this process's certificate."""

    def __init__(
        self,
        handle: Handle,
        port: int,
        credentials: grpc.ServerCredentials,
        expires: datetime.datetime,
        own: str,
    ):
        methods = _Methods(checked(handle), own)
        self._server = grpc.server(
            _threads,
            handlers=[methods],
            options=[
                *_SERVER_OPTIONS,
                # Strangers are connections too, until their handshake fails or has taken too long.
                ("grpc.max_allowed_incoming_connections", max_incoming_connections()),
            ],
            maximum_concurrent_rpcs=_MAX_CALLS,
        )
        try:
            self.port = self._server.add_secure_port(f"[::]:{port}", credentials)
        except RuntimeError as error:
            raise UserError(
                f"Port {port} cannot be listened on; does another program use it?"
            ) from error
        strangers, expiry = Strangers(self.port), ExpiryNotice(expires)
        methods.called = strangers.called
        self._server.start()
        self._closed = threading.Event()

        def watch() -> None:
            expiry.look()
            while not self._closed.wait(LOOK_SECONDS):
                strangers.look()
                expiry.look()
            strangers.look(is_last=True)

        self._watcher = threading.Thread(target=logs.carried(watch), name="grpc-watch", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        self._closed.set()
        self._watcher.join(_CLOSE_SECONDS)
        self._server.stop(_CLOSE_SECONDS).wait(2 * _CLOSE_SECONDS)


class GrpcChannel:
    """A gRPC client of one address, with a connection of its own."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials):
        self._calls = PendingCalls(address)
        self._channel = grpc.secure_channel(f"dns:///{address}", credentials, _CLIENT_OPTIONS)
        self._handle: Any = self._channel.unary_unary(_METHOD)

    def submit(self, payload: bytes) -> "concurrent.futures.Future[bytes]":
        def send(future: "concurrent.futures.Future[bytes]") -> Callable[[], object]:
            call = self._handle.future(payload, timeout=CALL_SECONDS)
            call.add_done_callback(lambda _: self._settle(future, call))
            return call.cancel

        return self._calls.begin(payload, send)

    def close(self) -> None:
        if self._calls.close():
            # Closing waits for the callbacks of the channel's calls; this may run in one of them.
            threading.Thread(target=self._channel.close, name="grpc-close").start()

    def _settle(self, future: "concurrent.futures.Future[bytes]", call: Any) -> None:
        if call.code() is grpc.StatusCode.OK:
            self._calls.answer(future, call.result())
        else:
            details = str(call.details())
            wrong = WrongCertificate if _VERIFY_FAILED in details else ChannelError
            self._calls.fail(future, f"{call.code().name}: {details}", wrong)


class _Methods(grpc.GenericRpcHandler):
    """The only method; the log names peers that make other calls.

    Attributes:
        called: called with the peer of each call.
    """

    def __init__(self, handle: Handle, own: str):
        self.called: Callable[[str], None] = lambda _peer: None
        self._handle = handle
        self._own = own
        # To the peer it is a call with one message. As a stream, a message that gRPC refuses is
        # noticed here; a unary call would end silently.
        self._method = grpc.stream_unary_rpc_method_handler(self._answer)

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if call.method == _METHOD:
            return self._method
        logging.warning("Refused a call of the unknown method %r.", call.method)
        return None

    def _answer(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        peer = context.peer()  # the context forgets it when the call ends
        self.called(peer)
        try:
            payload = next(requests)
        except (StopIteration, grpc.RpcError):
            logging.warning(
                "Refused a call from %s: cut off, no message, or one of more than %d bytes.",
                peer,
                MAX_MESSAGE_BYTES,
            )
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "A call is one message.")
        certificate = caller.fingerprint(context.auth_context()["x509_pem_cert"][0])
        with caller.called_by(certificate if certificate != self._own else ""):
            return self._handle(payload)
