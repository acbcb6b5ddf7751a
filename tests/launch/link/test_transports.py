"""The contract of all transports, also with peers that misbehave."""

import os
import random
import socket
import threading
import time

import pytest
from transport_fixtures import (  # noqa: F401
    SECONDS,
    certificates_of_run,
    each_transport,
    named_transport,
    run_script,
    server_process,
)

from kipper.common.errors import UserError
from kipper.launch.link.transports import pending, transport_named
from kipper.launch.link.transports.addresses import free_port, is_listening
from kipper.launch.link.transports.transport import ChannelError

pytestmark = [pytest.mark.processes, each_transport]


def echo(payload):
    return payload


@pytest.fixture
def connected(transport):
    """Serves a function and opens a channel to it; closes both at the end."""
    made = []

    def connect(handle):
        listener = transport.listen(handle)
        channel = transport.connect(f"localhost:{listener.port}")
        made.extend([channel, listener])
        return channel

    yield connect
    for each in made:
        each.close()


@pytest.mark.parametrize("size", [0, 1, 1000, 2**20 + 1, 8 * 2**20])
def test_any_bytes_come_back(connected, size):
    payload = os.urandom(size)
    assert connected(echo).submit(payload).result(SECONDS) == payload


def test_calls_run_at_the_same_time(connected):
    together = threading.Barrier(16)

    def meet(payload):
        together.wait(SECONDS)
        return payload * 2

    channel = connected(meet)
    calls = [channel.submit(bytes([i])) for i in range(16)]
    assert [call.result(SECONDS) for call in calls] == [bytes([i, i]) for i in range(16)]


def test_many_channels_in_many_threads(connected):
    channel = connected(echo)
    wrong = []

    def call(thread):
        for i in range(50):
            payload = b"%d %d" % (thread, i)
            if channel.submit(payload).result(SECONDS) != payload:
                wrong.append(payload)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert wrong == []


def test_a_failing_handler_fails_its_call_alone(connected):
    def handle(payload):
        if payload == b"bad":
            raise RuntimeError("no such thing")
        return payload

    channel = connected(handle)
    with pytest.raises(ChannelError, match="no such thing"):
        channel.submit(b"bad").result(SECONDS)
    assert channel.submit(b"good").result(SECONDS) == b"good"


def test_a_handler_that_answers_no_bytes_fails_its_call_alone(connected):
    channel = connected(lambda payload: payload or None)
    with pytest.raises(ChannelError):
        channel.submit(b"").result(SECONDS)
    assert channel.submit(b"good").result(SECONDS) == b"good"


def test_a_peer_that_answers_no_bytes_fails_the_call(transport):
    if transport.name != "courier":
        pytest.skip("gRPC carries nothing else")
    import courier

    server = courier.Server()
    server.Bind("handle", lambda payload: len(payload))
    server.Start()
    channel = transport.connect(f"localhost:{server.port}")
    with pytest.raises(ChannelError, match="int instead of bytes"):
        channel.submit(b"x").result(SECONDS)
    channel.close()
    server.Stop()


@pytest.mark.parametrize("where", ["request", "reply"])
def test_what_is_too_large_is_refused_where_it_is_made(connected, monkeypatch, where):
    monkeypatch.setattr(pending, "MAX_MESSAGE_BYTES", 1000)
    channel = connected(lambda payload: bytes(1001) if payload == b"reply" else payload)
    with pytest.raises(ChannelError, match=f"A {where} of 1001 bytes is larger than"):
        channel.submit(bytes(1001) if where == "request" else b"reply").result(SECONDS)
    assert len(channel.submit(bytes(1000)).result(SECONDS)) == 1000


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "no-such-host.invalid", "unix"])
def test_an_unreachable_address_is_an_error_and_not_a_wait(transport, host):
    channel = transport.connect(f"{host}:{free_port()}")
    with pytest.raises(ChannelError):
        channel.submit(b"x").result(SECONDS)
    channel.close()


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:", ":1", "host:0", "host:65536", "a b:1", "/tmp/socket", "unix:/x:1"],
)
def test_what_is_no_address_is_refused_in_a_sentence(transport, address):
    with pytest.raises(UserError, match=r"not an address of the form HOST:PORT\.$"):
        transport.connect(address)


def test_a_channel_finds_the_server_that_came_back(transport):
    first = transport.listen(lambda _: b"first")
    address = f"localhost:{first.port}"
    channel = transport.connect(address)
    assert channel.submit(b"").result(SECONDS) == b"first"
    first.close()
    assert not is_listening(address)
    second = transport.listen(lambda _: b"second", first.port)
    deadline = time.monotonic() + SECONDS
    while not is_listening(address):
        assert time.monotonic() < deadline, "the second server does not listen"
        time.sleep(0.05)
    answer = None
    while answer is None and time.monotonic() < deadline:
        try:
            answer = channel.submit(b"").result(SECONDS)
        except ChannelError:
            time.sleep(0.05)
    assert answer == b"second"
    channel.close()
    second.close()


def test_a_taken_port_is_refused_in_a_sentence(transport):
    listener = transport.listen(echo)
    with pytest.raises(UserError, match=f"^Port {listener.port} cannot be listened on"):
        transport.listen(echo, listener.port)
    channel = transport.connect(f"localhost:{listener.port}")
    assert channel.submit(b"still there").result(SECONDS) == b"still there"
    channel.close()
    listener.close()
    with socket.create_server(("", 0)) as foreign:
        port = foreign.getsockname()[1]
        with pytest.raises(UserError, match=f"^Port {port} "):
            transport.listen(echo, port)


def test_a_proxy_in_the_environment_is_not_asked(transport, certificates, monkeypatch):
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://localhost:1")
    again = transport_named(transport.name, certificates)
    listener = again.listen(echo)
    channel = again.connect(f"localhost:{listener.port}")
    assert channel.submit(b"x").result(SECONDS) == b"x"
    channel.close()
    listener.close()


def test_a_server_killed_in_a_call_fails_it(transport, certificates):
    with server_process(transport, certificates) as (process, address):
        channel = transport.connect(address)
        call = channel.submit(b"sleep")
        assert process.stdout.readline() == "begun\n"
        process.kill()
        with pytest.raises(ChannelError):
            call.result(SECONDS)
        channel.close()


def test_cancelling_at_any_moment_harms_nobody(connected):
    """The stock Courier client aborts the process within 2,000 such calls."""
    channel = connected(echo)
    chance = random.Random(3)
    for _ in range(100):
        calls = [channel.submit(b"x") for _ in range(30)]
        for call in calls:
            if chance.random() < 0.5:
                call.cancel()
        for call in calls:
            assert call.cancelled() or call.result(SECONDS) == b"x"
    assert channel.submit(b"still").result(SECONDS) == b"still"


def test_close_cancels_what_is_in_flight_and_refuses_more(connected):
    begun, release = threading.Event(), threading.Event()

    def wait(payload):
        begun.set()
        release.wait(SECONDS)
        return payload

    channel = connected(wait)
    calls = [channel.submit(b"x") for _ in range(3)]
    assert begun.wait(SECONDS)
    channel.close()
    channel.close()
    assert all(call.cancelled() for call in calls)
    with pytest.raises(ChannelError, match="closed"):
        channel.submit(b"x").result(SECONDS)
    release.set()


def test_a_channel_may_be_closed_and_dropped_by_its_own_callback(transport):
    listener = transport.listen(echo)
    for _ in range(20):
        closed = threading.Event()
        channel = transport.connect(f"localhost:{listener.port}")

        def finish(_, channel=channel, closed=closed):
            channel.close()
            closed.set()

        channel.submit(b"x").add_done_callback(finish)
        del channel, finish
        assert closed.wait(SECONDS)
    listener.close()


_EXIT = """
import sys, threading, time
from kipper.launch.link.transports import transport_named

name, certificates, close_channel, close_listener, drop = sys.argv[1:]
begun = threading.Event()

def handle(payload):
    begun.set()
    end = time.monotonic() + 600
    while time.monotonic() < end:
        sum(range(1000))
    return payload

transport = transport_named(name, certificates)
listener = transport.listen(handle)
channel = transport.connect(f"localhost:{listener.port}")
calls = [channel.submit(b"x") for _ in range(3)]
assert begun.wait(50)
if close_channel:
    channel.close()
if close_listener:
    listener.close()
if drop:
    del listener, channel, calls
print("the end")
"""


@pytest.mark.parametrize(
    ("close_channel", "close_listener", "drop"),
    [("1", "1", ""), ("", "1", ""), ("1", "", ""), ("", "", ""), ("", "", "1")],
    ids=["close both", "close listener", "close channel", "close nothing", "drop everything"],
)
def test_a_process_ends_well_with_calls_in_flight_on_both_sides(
    transport,
    certificates,
    close_channel,
    close_listener,
    drop,
):
    arguments = (transport.name, certificates, close_channel, close_listener, drop)
    assert run_script(_EXIT, *arguments) == "the end\n"


_FEW_FILES = """
import resource, sys
from kipper.launch.link.transports import transport_named
from kipper.launch.link.transports.transport import ChannelError

resource.setrlimit(resource.RLIMIT_NOFILE, (180, 180))
transport = transport_named(*sys.argv[1:])
listener = transport.listen(lambda payload: payload)
channels = []
try:
    for _ in range(180):
        channels.append(transport.connect(f"localhost:{listener.port}"))
        assert channels[-1].submit(b"x").result(50) == b"x"
except ChannelError as error:
    print(error)
"""


def test_running_out_of_files_is_an_error_and_not_an_abort(transport, certificates):
    printed = run_script(_FEW_FILES, transport.name, certificates)
    assert "of 180 files are open" in printed
