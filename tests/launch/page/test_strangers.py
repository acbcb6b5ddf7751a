"""Strangers at the live page: which get an answer, and what the others cost."""

import contextlib
import socket
import threading
import time
import types

import pytest

from kipper.common.errors import UserError
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.coordinator import check_run
from kipper.launch.page import server
from kipper.launch.page.live import shown_live
from kipper.launch.page.token import VARIABLE

AS_THEY_ARE = types.SimpleNamespace(
    preprocessing=types.SimpleNamespace(invert=lambda images: images), pixel_range=(0.0, 1.0)
)
EVERY_PATH = (
    *("/", "/page.js", "/page.css", "/favicon.ico", "/events", "/api/state", "/api/records"),
    *("/api/workers", "/images/1.png", "/figures/curve.png", "/metrics", "/health", "/nothing"),
)
TOKEN = "a-token-of-the-user-01"


def settings(workdir, **changes):
    return RunSettings.of(DistillSettings, workdir=str(workdir), dataset="digits", **changes)


@contextlib.contextmanager
def served(tmp_path, **changes):
    with shown_live(settings(tmp_path, **changes), AS_THEY_ARE) as watch:
        publish(watch)
        yield watch


@pytest.fixture
def watch(tmp_path):
    with served(tmp_path) as shown:
        yield shown


def publish(watch, **status):
    said = {"state": "running", "steps": 9, **status}
    watch.publish(time.monotonic(), time.time(), said, None, (), None)


def port_of(watch):
    return int(watch.address.removesuffix("/").split("/?")[0].rpartition(":")[2])


@contextlib.contextmanager
def connected(watch, receive_bytes=None):
    with socket.socket() as stream:
        if receive_bytes is not None:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        stream.settimeout(30)
        stream.connect(("127.0.0.1", port_of(watch)))
        yield stream


def request(watch, path, method="GET", **headers):
    headers = {"Host": f"127.0.0.1:{port_of(watch)}", "Connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def ask(watch, path, method="GET", until=None, **headers):
    """The status, the head and the body of an answer, up to its end or to some bytes."""
    with connected(watch) as stream:
        stream.sendall(request(watch, path, method, **headers))
        got = b""
        while until is None or until not in got:
            part = stream.recv(65536)
            if not part:
                break
            got += part
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
def test_other_methods_are_refused_in_one_line(watch, monkeypatch, method) -> None:
    logged = []
    monkeypatch.setattr(server.logging, "warning", lambda *args, **_: logged.append(args))
    for path in ("/", "/events", "/nothing"):
        status, head, body = ask(watch, path, method)
        assert (status, body) == (405, b"405 Method Not Allowed\n")
        assert "\r\nAllow: GET, HEAD" in head
    assert logged == []


@pytest.mark.parametrize("path", ["/", "/page.js", "/api/state", "/metrics", "/health", "/nothing"])
def test_head_is_get_without_its_content(watch, path) -> None:
    assert ask(watch, path, "HEAD")[2] == b""
    kept = [
        {line for line in ask(watch, path, method)[1].split("\r\n") if not line.startswith("Date")}
        for method in ("HEAD", "GET")
    ]
    if path not in ("/metrics", "/health"):  # which tell the time
        assert kept[0] == kept[1]
    assert ask(watch, "/events", "HEAD")[0] == 200


def test_silent_connections_give_way(watch, monkeypatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 4)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(connected(watch))
        listener.sendall(request(watch, "/events"))
        assert listener.recv(100)
        beginnings = (b"", b"GET / HTTP/1.1\r\nX-", request(watch, "/", "POST", Content_Length=99))
        for count in range(12):
            stack.enter_context(connected(watch)).sendall(beginnings[count % 3])
            assert ask(watch, "/health")[0] == 200
        publish(watch, step=7)
        while b'"step":7' not in listener.recv(65536):  # it was not sent away
            pass


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nX-", b"POST"])
def test_a_request_must_come_soon(tmp_path, monkeypatch, beginning) -> None:
    monkeypatch.setattr(server, "SECONDS_TO_ASK", 0.2)
    with served(tmp_path) as watch, connected(watch) as stream:
        if beginning == b"POST":
            beginning = request(watch, "/", "POST", Content_Length=99)
        stream.sendall(beginning)
        with contextlib.suppress(ConnectionResetError):
            assert stream.recv(100) == b""


def listening(watch, stack):
    """A client of /events that reads nothing."""
    stream = stack.enter_context(connected(watch, receive_bytes=2048))
    stream.sendall(request(watch, "/events"))
    return stream


def hears(watch):
    return b"event: state" in ask(watch, "/events", until=b"event: state")[2]


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_listeners_who_do_not_read_give_way_to_those_who_do(watch, monkeypatch) -> None:
    monkeypatch.setattr(server, "SECONDS_BETWEEN_STATES", 0.01)
    monkeypatch.setattr(server, "MOST_LISTENERS", 3)
    monkeypatch.setattr(server, "SECONDS_TO_GIVE_WAY", 0.5)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            listening(watch, stack)
        publish(watch, message="x" * 50_000)
        until(lambda: hears(watch))


def test_the_oldest_listener_gives_way_if_all_read(watch, monkeypatch) -> None:
    monkeypatch.setattr(server, "MOST_LISTENERS", 2)
    monkeypatch.setattr(server, "SECONDS_TO_STAY", 0.5)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(connected(watch)) for _ in range(2)]
        for stream in streams:
            stream.sendall(request(watch, "/events"))
            assert stream.recv(100)
        until(lambda: hears(watch))
        streams[0].settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            while streams[0].recv(65536):
                pass


def test_a_listener_who_takes_nothing_is_gone(watch, monkeypatch) -> None:
    monkeypatch.setattr(server, "SECONDS_BETWEEN_STATES", 0.01)
    monkeypatch.setattr(server, "SECONDS_TO_TAKE", 0.3)
    with contextlib.ExitStack() as stack:
        publish(watch, message="x" * 3_000_000)
        stream = listening(watch, stack)
        time.sleep(1.0)
        with contextlib.suppress(ConnectionResetError):
            while stream.recv(2**20):  # what was under way, and then the end
                pass


@pytest.fixture(params=["generated", "given"])
def guarded(tmp_path, monkeypatch, request):
    """A page at all addresses with its own token, or one at loopback with the user's."""
    if request.param == "given":
        monkeypatch.setenv(VARIABLE, TOKEN)
    address = "127.0.0.1:0" if request.param == "given" else "0.0.0.0:0"
    with served(tmp_path, dashboard=address) as watch:
        yield watch, watch.address.partition("/?token=")[2]


def test_the_token_opens_everything_and_nothing_opens_without(guarded) -> None:
    watch, token = guarded
    assert len(token) >= 16
    wrong = ({}, {"Authorization": "Bearer " + token[:-1]}, {"Authorization": "Basic " + token})
    cookie = f"kipper_{port_of(watch)}"
    for path in EVERY_PATH:
        for headers in (*wrong, {"Cookie": f"{cookie}={token}x"}, {"Cookie": "kipper_1=" + token}):
            status, head, body = ask(watch, path, **headers)
            assert status == 401
            assert "www-authenticate: bearer" in head.lower()
            assert token.encode() not in body
            assert "Set-Cookie" not in head
        stop = b"event: state" if path == "/events" else None
        plain = ask(watch, path, until=stop, Authorization="Bearer " + token)
        assert plain[0] in (200, 204, 404)
        assert ask(watch, path, until=stop, Cookie=f"{cookie}={token}")[0] == plain[0]
        assert ask(watch, f"{path}?token={token}", until=stop)[0] == plain[0]
        assert ask(watch, f"{path}?token={token}x")[0] == 401


def test_the_token_in_the_address_becomes_a_cookie(guarded) -> None:
    watch, token = guarded
    _, head, _ = ask(watch, f"/?token={token}")
    cookie = next(line for line in head.split("\r\n") if line.startswith("Set-Cookie: "))
    name_and_value, *attributes = cookie.removeprefix("Set-Cookie: ").split("; ")
    assert name_and_value == f"kipper_{port_of(watch)}={token}"
    assert set(attributes) == {"HttpOnly", "SameSite=Strict"}
    assert "Referrer-Policy: no-referrer" in head


def test_without_a_token_if_asked_for_by_name(tmp_path) -> None:
    with served(tmp_path, dashboard="0.0.0.0:0", dashboard_open=True) as watch:
        assert "token" not in watch.address
        assert ask(watch, "/api/state")[0] == 200


@pytest.mark.parametrize(
    ("token", "changes", "reason"),
    [
        ("short", {}, "has 5 characters; it must have 16 to 256"),
        ("sixteen letters!", {}, "16 to 256 of A-Z"),
        (TOKEN, {"dashboard_open": True}, "give one of them"),
    ],
)
def test_a_token_that_cannot_be_used_is_refused_at_the_start(
    tmp_path, monkeypatch, token, changes, reason
) -> None:
    monkeypatch.setenv(VARIABLE, token)
    with pytest.raises(UserError, match=reason) as refused:
        check_run(settings(tmp_path / "run", **changes))
    assert token not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_pages_of_other_sites_are_not_answered(watch) -> None:
    own = f"127.0.0.1:{port_of(watch)}"
    for origin in (f"http://{own}", "http://localhost:1"):
        assert ask(watch, "/api/state", Origin=origin)[0] == 200
    for origin in ("http://example.com", "null", "https://127.0.0.1.example.com"):
        assert ask(watch, "/api/state", Origin=origin)[0] == 403


def test_pipelined_requests_are_answered_in_turn(watch) -> None:
    with connected(watch) as stream:
        one = request(watch, "/health", Connection="keep-alive")
        stream.sendall(one * 20 + request(watch, "/nothing"))
        got = b""
        while part := stream.recv(65536):
            got += part
    assert got.count(b"HTTP/1.1 200") == 20
    assert got.count(b"HTTP/1.1 404") == 1


def test_a_flood_leaves_no_thread_behind(tmp_path) -> None:
    with served(tmp_path) as watch, contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connected(watch)).sendall(b"GET / HT")
        assert ask(watch, "/health")[0] == 200
    assert "dashboard" not in {thread.name for thread in threading.enumerate()}
