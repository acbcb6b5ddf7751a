"""Peers and messages that are refused, and the log of the side that refuses."""

import contextlib
import datetime
import errno
import logging
import os
import pathlib
import pickle
import shutil
import socket
import time

import grpc
import psutil
import pytest
from common_fixtures import Malicious
from installation import needs_launchpad
from transport_fixtures import (  # noqa: F401
    SECONDS,
    certificates_of_another_run,
    certificates_of_run,
)

from kipper.common import messages, wire
from kipper.common.errors import UserError
from kipper.launch.link import certificates as certificates_module
from kipper.launch.link.certificates import make_certificates
from kipper.launch.link.transports import grpc_tls, open_files, transport_named
from kipper.launch.link.transports.caller import fingerprint, own_certificate
from kipper.launch.link.transports.transport import (
    MAX_MESSAGE_BYTES,
    ChannelError,
    WrongCertificate,
)
from kipper.workers.service import WorkerService

METHOD = "/kipper/handle"
NAMED = ("grpc.ssl_target_name_override", "kipper")


@pytest.fixture
def served(certificates):
    """An echo server: its address, and the payloads that reached its handler."""
    reached = []

    def handle(payload):
        reached.append(payload)
        return payload

    transport = transport_named("grpc_tls", certificates)
    listener = transport.listen(handle)
    yield f"localhost:{listener.port}", reached
    channel = transport.connect(f"localhost:{listener.port}")
    assert channel.submit(b"alive").result(SECONDS) == b"alive"
    channel.close()
    listener.close()


def _files(folder):
    return [pathlib.Path(folder, name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem")]


def _credentials(authority, key=None, certificate=None):
    return grpc.ssl_channel_credentials(authority, key, certificate)


def _call(channel, payload=b"x", method=METHOD):
    """The status of a call by the raw library, whose channel is then closed."""
    with channel, pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary(method)(payload, timeout=SECONDS)
    return failed.value.code()


def _wait_for(text, capfd):
    """Waits for a message of gRPC itself on standard error."""
    printed = ""
    deadline = time.monotonic() + SECONDS
    while text not in printed and time.monotonic() < deadline:
        printed += capfd.readouterr().err
        time.sleep(0.02)
    assert text in printed


def test_a_client_without_tls_is_refused_and_logged(served, capfd):
    address, reached = served
    assert _call(grpc.insecure_channel(address)) is grpc.StatusCode.UNAVAILABLE
    assert reached == []
    _wait_for("WRONG_VERSION_NUMBER", capfd)


def test_a_client_without_a_certificate_is_refused_and_logged(served, certificates, capfd):
    address, reached = served
    authority, _, _ = _files(certificates)
    channel = grpc.secure_channel(address, _credentials(authority), [NAMED])
    assert _call(channel) is grpc.StatusCode.UNAVAILABLE
    assert reached == []
    _wait_for("PEER_DID_NOT_RETURN_A_CERTIFICATE", capfd)


def test_a_certificate_of_another_run_is_refused_by_the_server_and_logged(
    served, certificates, other_certificates, capfd
):
    """The client trusts the server, but its own certificate is refused."""
    address, reached = served
    authority, _, _ = _files(certificates)
    _, key, certificate = _files(other_certificates)
    channel = grpc.secure_channel(address, _credentials(authority, key, certificate), [NAMED])
    assert _call(channel) is grpc.StatusCode.UNAVAILABLE
    assert reached == []
    _wait_for("CERTIFICATE_VERIFY_FAILED", capfd)


def test_a_server_of_another_run_is_refused_by_the_client(served, other_certificates):
    address, reached = served
    channel = transport_named("grpc_tls", other_certificates).connect(address)
    with pytest.raises(WrongCertificate, match="CERTIFICATE_VERIFY_FAILED"):
        channel.submit(b"x").result(SECONDS)
    channel.close()
    assert reached == []


def test_a_certificate_that_has_expired_is_refused_with_that_word(tmp_path, monkeypatch):
    then = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=400)
    monkeypatch.setattr(certificates_module, "_now", lambda: then)
    make_certificates(str(tmp_path / "tls"))
    transport = transport_named("grpc_tls", str(tmp_path / "tls"))  # read while it was valid
    listener = transport.listen(lambda payload: payload)
    channel = transport.connect(f"localhost:{listener.port}")
    with pytest.raises(WrongCertificate, match="certificate has expired"):
        channel.submit(b"x").result(SECONDS)
    channel.close()
    listener.close()


def test_a_server_without_tls_is_refused_by_the_client(certificates):
    with socket.create_server(("localhost", 0)) as server:
        channel = transport_named("grpc_tls", certificates).connect(
            f"localhost:{server.getsockname()[1]}"
        )
        call = channel.submit(b"secret")
        peer, _ = server.accept()
        with peer:
            assert b"secret" not in peer.recv(10_000)
            peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with pytest.raises(ChannelError):
                call.result(SECONDS)
        channel.close()


def test_one_of_us_may_not_send_more_than_the_limit_and_is_named(served, certificates, caplog):
    address, reached = served
    options = [NAMED, ("grpc.max_send_message_length", -1)]
    channel = grpc.secure_channel(address, _credentials(*_files(certificates)), options)
    payload = bytes(MAX_MESSAGE_BYTES + 1)
    with caplog.at_level(logging.WARNING):
        assert _call(channel, payload) is grpc.StatusCode.RESOURCE_EXHAUSTED
        deadline = time.monotonic() + SECONDS
        while "Refused a call from" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "Refused a call from ipv" in caplog.text
    assert reached == []


@pytest.mark.parametrize("method", ["/kipper/other", "/grpc.health.v1.Health/Check", "/x/y"])
def test_a_call_of_another_method_is_refused_and_named(served, certificates, caplog, method):
    address, reached = served
    channel = grpc.secure_channel(address, _credentials(*_files(certificates)), [NAMED])
    with caplog.at_level(logging.WARNING):
        assert _call(channel, method=method) is grpc.StatusCode.UNIMPLEMENTED
    assert f"Refused a call of the unknown method '{method}'" in caplog.text
    assert reached == []


def _served_connections(port):
    """The number of this process's sockets at its own port."""
    found = psutil.Process().net_connections("tcp")
    return sum(each.laddr.port == port and bool(each.raddr) for each in found)


def test_strangers_take_a_bounded_number_of_connections(certificates, monkeypatch):
    monkeypatch.setattr(grpc_tls, "max_incoming_connections", lambda: 5)
    transport = transport_named("grpc_tls", certificates)
    listener = transport.listen(lambda payload: payload)
    channel = transport.connect(f"localhost:{listener.port}")
    assert channel.submit(b"before").result(SECONDS) == b"before"
    with contextlib.ExitStack() as strangers:
        opened = [
            strangers.enter_context(socket.create_connection(("localhost", listener.port)))
            for _ in range(40)
        ]
        for stranger in opened[10:]:  # refused: closed at once, not after the handshake's time
            stranger.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b""
        assert _served_connections(listener.port) <= 5
        assert channel.submit(b"meanwhile").result(SECONDS) == b"meanwhile"
    newcomer = transport.connect(f"localhost:{listener.port}")
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(ChannelError):
            assert newcomer.submit(b"after").result(SECONDS) == b"after"
            break
    for each in (channel, newcomer, listener):
        each.close()


@pytest.mark.parametrize(
    ("limit", "incoming", "workers"),
    [(512, 156, 52), (20_000, 4096, 3072), (2**20, 4096, 3072), (256, 64, 9), (64, 16, 1)],
)
def test_descriptors_are_shared_out(monkeypatch, limit, incoming, workers):
    monkeypatch.setattr(open_files, "allow_open_files", lambda: limit)
    assert open_files.max_incoming_connections() == incoming
    assert open_files.max_workers() == workers


def test_no_connection_is_opened_when_no_descriptor_is_left(monkeypatch):
    def listdir(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(open_files.os, "listdir", listdir)
    with pytest.raises(ChannelError, match="too many for another connection"):
        open_files.check_files_left()


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(300), b"?"])
def test_other_protocols_and_noise_are_refused(served, words):
    address, reached = served
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as stranger:
        stranger.sendall(words)
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(SECONDS)
        while stranger.recv(1000):
            pass
    assert reached == []


def test_malformed_bytes_and_pickles_are_answered_with_a_failure(certificates, tmp_path, caplog):
    trace = tmp_path / "trace"
    bomb = pickle.dumps(Malicious(f"touch '{trace}'"))
    pickle.loads(bomb)
    assert trace.exists(), "the payload would do nothing anyway"
    trace.unlink()
    transport = transport_named("grpc_tls", certificates)
    listener = transport.listen(WorkerService(1).handle)
    channel = transport.connect(f"localhost:{listener.port}")
    damaged = bytearray(wire.encode(messages.Cancel(block=1)))
    damaged[-1] ^= 1
    calls = (bomb, b"", os.urandom(100), bytes(damaged), wire.encode(messages.Done()))
    for payload in calls:
        answer = wire.decode(channel.submit(payload).result(SECONDS))
        assert isinstance(answer, messages.Failure)
        assert answer.kind == messages.DAMAGED
    assert caplog.text.count("Refused a damaged message") == len(calls)
    assert not trace.exists()
    done = channel.submit(wire.encode(messages.Cancel(block=1))).result(SECONDS)
    assert isinstance(wire.decode(done), messages.Done)
    channel.close()
    listener.close()


@needs_launchpad
def test_grpc_and_courier_serve_beside_each_other_in_one_process(certificates):
    transports = [transport_named(name, certificates) for name in ("courier", "grpc_tls")]
    listeners = [one.listen(lambda payload: payload) for one in transports]
    channels = [
        one.connect(f"localhost:{listener.port}")
        for one, listener in zip(transports, listeners, strict=True)
    ]
    calls = [(channel.submit(b"%d" % i), b"%d" % i) for i in range(200) for channel in channels]
    for call, payload in calls:
        assert call.result(SECONDS) == payload
    for each in (*channels, *listeners):
        each.close()


def test_no_certificates_no_grpc(tmp_path):
    with pytest.raises(UserError, match="needs --certificates"):
        transport_named("grpc_tls", None)
    with pytest.raises(UserError, match="cannot be read"):
        transport_named("grpc_tls", str(tmp_path))


def test_an_unknown_transport_is_refused_in_a_sentence():
    with pytest.raises(UserError, match="must be one of courier, grpc_tls"):
        transport_named("pigeon")


def test_a_peer_with_a_certificate_of_its_own_is_known_by_it(
    certificates, other_certificates, tmp_path
):
    """Authorities of the user's own may sign one for each host."""
    folders = []
    for own, other in ((certificates, other_certificates), (other_certificates, certificates)):
        folder = tmp_path / str(len(folders))
        shutil.copytree(own, folder)
        with open(folder / "ca.pem", "ab") as bundle:
            bundle.write(pathlib.Path(other, "ca.pem").read_bytes())
        folders.append(str(folder))
    seen = []

    def handle(payload):
        seen.append(own_certificate())
        return payload

    listener = transport_named("grpc_tls", folders[0]).listen(handle)
    for folder in folders:
        channel = transport_named("grpc_tls", folder).connect(f"localhost:{listener.port}")
        assert channel.submit(b"x").result(SECONDS) == b"x"
        channel.close()
    listener.close()
    pem = pathlib.Path(other_certificates, "cert.pem").read_bytes()
    assert seen == ["", fingerprint(pem)]
