"""Connections without a call: how they are distinguished from members, counted and reported."""

import contextlib
import socket
import time

import pytest
from transport_fixtures import SECONDS, certificates_of_run  # noqa: F401

from kipper.launch.link.transports import grpc_tls, transport_named
from kipper.launch.link.transports.strangers import Strangers, connections

OPEN, CLOSED, LEFT = "01", "06", "08"


class Table:
    """A kernel's table and a clock, both set by hand."""

    def __init__(self):
        self.states, self.now = {}, 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def table():
    return Table()


@pytest.fixture
def strangers(table):
    return Strangers(7, lambda port: table.states if port == 7 else {}, table)


def test_closed_handshakes_are_counted_once_and_told_at_most_once_a_minute(
    strangers, table, caplog
):
    strangers.look()
    assert caplog.text == ""
    table.states = {("10.0.0.7", port): CLOSED for port in range(1000, 1012)}
    table.states["10.0.0.8", 1] = CLOSED
    strangers.look()
    assert caplog.messages == [
        "At least 13 connections to port 7 came without this run's certificate (12 from 10.0.0.7, "
        "1 from 10.0.0.8); 0 are open."
    ]
    table.states["10.0.0.9", 5] = CLOSED
    for _ in range(5):
        table.now += 10
        strangers.look()
    assert len(caplog.messages) == 1
    table.now += 10
    strangers.look()
    assert caplog.messages[1:] == [
        "At least 1 connections to port 7 came without this run's certificate (1 from 10.0.0.9); "
        "0 are open."
    ]
    table.states["10.0.0.9", 6] = CLOSED
    strangers.look(is_last=True)
    assert len(caplog.messages) == 3


def test_members_and_those_who_leave_by_themselves_are_not(strangers, table, caplog):
    strangers.called("ipv4:10.0.0.7:5")
    strangers.called("ipv6:%5Bfd00::1%5D:6")
    strangers.called("unix:whatever")
    table.states = {("10.0.0.7", 5): CLOSED, ("fd00::1", 6): OPEN, ("10.0.0.9", 5): LEFT}
    for _ in range(3):
        strangers.look()
    assert caplog.text == ""


def test_an_open_connection_is_one_if_it_has_not_called_by_the_next_look(strangers, table, caplog):
    table.states = {("10.0.0.7", 5): OPEN, ("10.0.0.7", 6): OPEN}
    strangers.look()
    assert caplog.text == ""
    strangers.called("ipv4:10.0.0.7:5")
    strangers.look()
    assert "At least 1 connections" in caplog.text
    assert "1 are open" in caplog.text


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_kernels_table_is_read(address):
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            server = stack.enter_context(socket.create_server((address, 0), family=family))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        port = server.getsockname()[1]
        client = stack.enter_context(socket.create_connection((address, port)))
        accepted, _ = server.accept()
        own = client.getsockname()[1]
        assert connections(port)[address, own] == OPEN
        accepted.close()
        assert connections(port)[address, own] in ("04", "05")


def test_a_listener_tells_of_strangers_and_not_of_members(certificates, monkeypatch, caplog):
    monkeypatch.setattr(grpc_tls, "LOOK_SECONDS", 0.05)
    transport = transport_named("grpc_tls", certificates)
    listener = transport.listen(lambda payload: payload)
    channel = transport.connect(f"localhost:{listener.port}")
    assert channel.submit(b"x").result(SECONDS) == b"x"
    with socket.create_connection(("localhost", listener.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while stranger.recv(1000):
            pass
        deadline = time.monotonic() + SECONDS
        while "came without" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
    assert f"At least 1 connections to port {listener.port} came without" in caplog.text
    channel.close()
    listener.close()
