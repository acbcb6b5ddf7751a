"""The server of the live page over HTTP, with a watch that the tests control."""

import concurrent.futures
import contextlib
import io
import json
import socket
import threading
import time
import types
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from kipper.common.errors import UserError
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.coordinator import check_run
from kipper.launch.page import curve, server
from kipper.launch.page.listening import KnownHosts, listen, url_of
from kipper.launch.page.live import shown_live
from kipper.server.figures import style
from kipper.server.figures.curve import curve_figure
from kipper.server.measures import ACCURACY, Score
from kipper.server.records import Evaluation, Validation
from kipper.server.watch.run_view import ShownImages

AS_THEY_ARE = types.SimpleNamespace(
    preprocessing=types.SimpleNamespace(invert=lambda images: images), pixel_range=(0.0, 1.0)
)


def settings(workdir, **changes):
    return RunSettings.of(DistillSettings, workdir=str(workdir), dataset="digits", **changes)


@pytest.fixture
def watch(tmp_path):
    with shown_live(settings(tmp_path), AS_THEY_ARE) as shown:
        yield shown
    assert "dashboard" not in {thread.name for thread in threading.enumerate()}


def publish(watch, records=(), **status):
    said = {"state": "running", "steps": 9, **status}
    watch.publish(time.monotonic(), time.time(), said, None, records, None)


def get(url, **headers):
    """Status, headers and body; no proxy, whatever the environment says."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


class Listener:
    """A client of /events, which reads when it is asked to."""

    def __init__(self, url, receive_bytes=None):
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.socket()
        if receive_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(30)
        self._socket.connect((host, int(port)))
        request = f"GET /events HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n"
        self._socket.sendall(request.encode())
        self._lines = self._socket.makefile("rb")

    def next(self):
        """The next event: its name and value; None at the end."""
        name = None
        for line in self._lines:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                return name, json.loads(line[6:])
        return None

    def close(self):
        self._lines.close()
        self._socket.close()


def test_every_route_answers_and_none_may_be_kept_or_taken_for_something_else(watch):
    publish(watch)
    kinds = {
        "/": "text/html",
        "/page.js": "text/javascript",
        "/page.css": "text/css",
        "/api/state": "application/json",
        "/api/records": "application/json",
        "/api/workers": "application/json",
        "/api/matrix": "application/json",
        "/api/timeline": "application/json",
        "/health": "application/json",
        "/metrics": "text/plain",
    }
    for path, kind in kinds.items():
        status, headers, body = get(watch.address + path)
        assert (status, headers.get_content_type()) == (200, kind), path
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert "Server" not in headers
        if kind == "application/json":
            json.loads(body)
    for path in ("/nothing", "/images/7.png", "/api/config", "/../setup.py"):
        assert get(watch.address + path)[0] == 404, path
    request = urllib.request.Request(watch.address + "/api/state", data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="405") as refused:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)
    refused.value.close()


def test_only_its_own_names_are_answered(watch):
    port = watch.address.rpartition(":")[2]
    for name in ("127.0.0.1", "localhost", "[::1]", socket.gethostname(), "LocalHost"):
        assert get(watch.address + "/health", Host=f"{name}:{port}")[0] == 200, name
    for name in ("example.com", "127.0.0.1.example.com", "10.1.2.3", "localhost.example.com"):
        status, _, body = get(watch.address + "/api/state", Host=f"{name}:{port}")
        assert (status, b"not known by that name" in body) == (403, True), name


def test_names_asked_for_and_the_address_called_are_known():
    hosts = KnownHosts("head.example", None)
    assert hosts.knows("HEAD.example:80", "10.0.0.7")
    assert hosts.knows("10.0.0.7:8080", "10.0.0.7")
    assert hosts.knows("10.0.0.7", "::ffff:10.0.0.7")
    assert hosts.knows("[fe80::1]:8080", "fe80::1")
    assert not hosts.knows("other.example", "10.0.0.7")
    assert not hosts.knows("", "10.0.0.7")


def test_listeners_get_all_records_and_then_the_new_ones(watch, monkeypatch):
    monkeypatch.setattr(server, "SECONDS_BETWEEN_STATES", 0.01)
    first, second = {"step": 0}, {"step": 1}
    publish(watch, (first,), step=0)
    with contextlib.closing(Listener(watch.address)) as listener:
        assert listener.next()[1]["progress"]["step"] == 0
        assert listener.next() == ("records", [first])
        publish(watch, (first, second), step=1)
        assert listener.next()[1]["progress"]["step"] == 1
        assert listener.next() == ("records", [second])
        again = {"step": 1, "loss": 0.5}
        publish(watch, (first, again), step=2)
        listener.next()
        assert listener.next() == ("records", [first, again])


def test_a_listener_gets_no_more_than_a_state_a_second(watch):
    publish(watch, step=0)
    with contextlib.closing(Listener(watch.address)) as listener:
        listener.next()
        listener.next()
        began = time.monotonic()
        for step in range(1, 4):
            publish(watch, step=step)
        assert listener.next()[1]["progress"]["step"] == 3
        assert time.monotonic() - began > 0.5


def test_a_slow_listener_misses_states_and_delays_nobody(watch, monkeypatch):
    monkeypatch.setattr(server, "SECONDS_BETWEEN_STATES", 0.001)
    publish(watch, message="")
    with (
        contextlib.closing(Listener(watch.address, 4096)) as slow,
        contextlib.closing(Listener(watch.address)) as quick,
    ):
        for step in range(60):
            publish(watch, step=step, message=400_000 * "x")
            while True:
                name, value = quick.next()
                if name == "state" and value["progress"]["step"] == step:
                    break
        publish(watch, step=60)
        steps = []
        while not steps or steps[-1] != 60:
            name, value = slow.next()
            if name == "state":
                steps.append(value["progress"]["step"])
        assert len(steps) < 50


def test_at_the_end_listeners_get_the_last_state(tmp_path):
    with contextlib.ExitStack() as stack:
        with shown_live(settings(tmp_path), AS_THEY_ARE) as watch:
            publish(watch, step=1)
            listener = stack.enter_context(contextlib.closing(Listener(watch.address)))
            listener.next()
            listener.next()
            publish(watch, step=2, state="finished")
        assert listener.next()[1]["run"]["state"] == "finished"
        assert listener.next() is None
    with pytest.raises(urllib.error.URLError):
        get(watch.address)
    assert list(tmp_path.iterdir()) == []


def test_images_are_enlarged_a_column_a_class(watch):
    images = np.zeros((6, 8, 8, 1), np.float32)
    images[[1, 4]] = 1.0
    classes = np.array([0, 1, 2, 0, 1, 2])
    watch.evaluated(ShownImages(5, images, classes, ("a", "b", "c"), False))
    publish(watch)
    status, headers, body = get(watch.address + "/images/5.png")
    assert (status, headers.get_content_type()) == (200, "image/png")
    pixels = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
    assert pixels.shape == (2 * 64 + 2, 3 * 64 + 4, 3)
    assert (pixels[:64, 66:130] == 255).all()  # the class in the middle is white
    assert (pixels[:64, :64] == 0).all()
    watch.evaluated(ShownImages(6, images, None, (), False))
    watch.evaluated(ShownImages(7, images, classes, ("a", "b", "c"), False))
    publish(watch)
    found = {step: get(f"{watch.address}/images/{step}.png")[0] for step in (5, 6, 7)}
    assert found == {5: 404, 6: 200, 7: 200}


RECORDS = tuple(
    {"step": step, "loss": 0.1 / (step + 1), "train_accuracy": 0.5, "test_accuracy": 0.6}
    for step in range(5)
)


def test_the_curves_are_the_drawing_of_the_report(watch, tmp_path):
    assert get(watch.address + "/figures/curve.png")[0] == 404
    validation = Validation(2, 0.1, Score(ACCURACY, 0.4))
    (tmp_path / "validation.jsonl").write_text(json.dumps(validation.record()) + "\n")
    watch.publish(time.monotonic(), time.time(), {"state": "running"}, None, RECORDS, 0.55)
    status, headers, body = get(watch.address + "/figures/curve.png")
    assert (status, headers.get_content_type()) == (200, "image/png")
    evaluations = [Evaluation.read(record) for record in RECORDS]
    expected = curve_figure(evaluations, [validation], Score(ACCURACY, 0.55))
    assert body == style.png(expected)


@pytest.fixture
def drawn(monkeypatch):
    """Replaces the drawing by one that returns the number of records; lists those numbers."""
    numbers = []

    def draw(snapshot):
        numbers.append(len(snapshot.records))
        png = b"%d" % len(snapshot.records)
        return curve.Drawings(png, png + b" dark")

    monkeypatch.setattr(curve, "drawings", draw)
    return numbers


def curves(watch, step=""):
    return get(f"{watch.address}/figures/curve.png?step={step}")[2]


def test_curves_are_drawn_once_per_change_of_the_records_and_only_on_request(watch, drawn):
    for count in (2, 3, 4):
        publish(watch, RECORDS[:count])
    assert drawn == []
    assert [curves(watch), curves(watch)] == [b"4", b"4"]
    assert curves(watch, "4&dark=yes") == b"4 dark"
    publish(watch, watch.newest.records, step=4)
    assert curves(watch) == b"4"
    publish(watch, RECORDS)
    assert [curves(watch), curves(watch)] == [b"5", b"5"]
    assert drawn == [4, 5]


def test_drawings_take_a_small_share_of_the_time(watch, drawn, monkeypatch):
    draw = curve.drawings
    monkeypatch.setattr(curve, "drawings", lambda snapshot: (time.sleep(0.03), draw(snapshot))[1])
    publish(watch, RECORDS[:3])
    curves(watch)
    began = time.monotonic()
    publish(watch, RECORDS)
    assert curves(watch) == b"5"
    assert time.monotonic() - began > 0.5


def test_a_drawing_delays_no_other_answer(watch, monkeypatch):
    began, finish = threading.Event(), threading.Event()

    def draw(_snapshot):
        began.set()
        assert finish.wait(30)
        return curve.Drawings(b"drawn", b"drawn")

    monkeypatch.setattr(curve, "drawings", draw)
    publish(watch, RECORDS)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(curves, watch)
        assert began.wait(30)
        assert get(watch.address + "/health")[0] == 200
        assert not asked.done()
        finish.set()
        assert asked.result(30) == b"drawn"


def test_an_error_in_drawing_is_logged_once_and_keeps_the_last_curves(watch, drawn, monkeypatch):
    monkeypatch.setattr(curve, "REST", 0.0)
    warned = []
    monkeypatch.setattr(curve.logging, "warning", lambda text, *args: warned.append(text % args))
    publish(watch, RECORDS[:2])
    assert curves(watch) == b"2"
    draw = curve.drawings
    monkeypatch.setattr(curve, "drawings", lambda snapshot: 1 / 0)
    for count in (3, 4):
        publish(watch, RECORDS[:count])
        assert curves(watch) == b"2"
    assert len(warned) == 1
    assert "ZeroDivisionError" in warned[0]
    monkeypatch.setattr(curve, "drawings", draw)
    publish(watch, RECORDS)
    assert curves(watch) == b"5"


@pytest.mark.parametrize("known", [4, 5])
def test_onlookers_get_the_last_curves_at_the_end(tmp_path, drawn, known):
    """Also if the server knew the last evaluation when an onlooker asked for one before it."""
    with shown_live(settings(tmp_path), AS_THEY_ARE) as watch:
        publish(watch, RECORDS[:known])
        listener = Listener(watch.address)
        listener.next()
        assert curves(watch, step=3) == b"%d" % known
        publish(watch, RECORDS, state="finished")
        ending = threading.Timer(0.3, lambda: asked.append(curves(watch, step=4)))
        asked = []
        ending.start()
    ending.join()
    listener.close()
    assert asked == [b"5"]


def test_health_tells_a_run_that_is_silent_for_a_minute(watch):
    publish(watch, step=4)
    status, _, body = get(watch.address + "/health")
    assert (status, json.loads(body)["status"], json.loads(body)["step"]) == (200, "ok", 4)
    watch.publish(time.monotonic() - 61, time.time() - 61, {"state": "running"}, None, (), None)
    status, _, body = get(watch.address + "/health")
    assert (status, json.loads(body)["status"]) == (503, "stalled")


def test_no_more_listeners_than_files_are_to_spare(watch, monkeypatch):
    monkeypatch.setattr(server, "MOST_LISTENERS", 1)
    publish(watch)
    with contextlib.closing(Listener(watch.address)) as listener:
        listener.next()
        assert get(watch.address + "/events")[0] == 503
        assert get(watch.address + "/health")[0] == 200


def test_no_page_is_no_server(tmp_path):
    with shown_live(settings(tmp_path, dashboard="none"), AS_THEY_ARE) as watch:
        assert watch is None


def test_an_address_that_is_taken_is_refused_before_anything_is_written(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = settings(tmp_path / "run", dashboard=f"127.0.0.1:{port}")
        with pytest.raises(UserError, match=f"127.0.0.1:{port} cannot be used: another program"):
            check_run(wanted)
        assert not (tmp_path / "run").exists()
        with shown_live(wanted, AS_THEY_ARE) as watch:  # taken a moment after it was checked
            assert watch is None


@pytest.mark.parametrize(
    ("address", "why"),
    [("203.0.113.9:0", "no such address"), ("no-such-host.invalid:80", "cannot be used")],
)
def test_other_machines_addresses_are_refused(tmp_path, address, why):
    with pytest.raises(UserError, match=why) as refused:
        check_run(settings(tmp_path / "run", dashboard=address))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", ["", "8080", "localhost", "localhost:", "a b:1", "host:65536"])
def test_an_invalid_address_is_refused(value):
    with pytest.raises(UserError, match="HOST:PORT"):
        settings("run", dashboard=value).check()


def test_urls_name_a_host_that_others_can_call():
    with listen("0.0.0.0", 0) as everywhere:
        port = everywhere.getsockname()[1]
        assert url_of(everywhere) == f"http://{socket.gethostname()}:{port}"
    assert settings("run", dashboard="[::1]:80").execution.dashboard_address == ("::1", 80)
