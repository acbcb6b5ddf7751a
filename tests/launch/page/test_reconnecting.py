"""The live page when its server goes away, returns, or falls silent."""

import contextlib
import time

import pytest

from kipper.launch.page.listening import KnownHosts, listen
from kipper.launch.page.live import PageServer
from kipper.server.watch.run_view import RunView
from kipper.server.watch.watch import Watch

pytestmark = pytest.mark.thorough

ABOUT = {
    "kipper": "0.1.0",
    "workdir": "runs/mine",
    "algorithm": "KIP",
    "dataset": "digits",
    "architecture": "fc1",
    "support_size": 10,
    "started": 1_790_000_000.0,
}


@contextlib.contextmanager
def _served(port, step, records, token=None):
    """A server at `port` of a run that stands at a step."""
    watch = Watch(ABOUT, time.monotonic(), time.time())
    watch.newest = RunView(
        number=1,
        now=time.monotonic(),
        unix=time.time(),
        about=ABOUT,
        status={"state": "running", "host": "here", "pid": 1, "step": step, "steps": 100},
        records=records,
        measure={"key": "accuracy", "name": "accuracy (%)", "factor": 100.0},
    )
    listener = listen("127.0.0.1", port)
    port = listener.getsockname()[1]
    server = PageServer(watch, listener, KnownHosts(), lambda images: images, token)
    try:
        yield port
    finally:
        server.stop()


def _records(count):
    return tuple(
        {"step": step, "loss": 0.1, "train_accuracy": 0.5, "test_accuracy": 0.5, "seconds": 1.0}
        for step in range(count)
    )


def _wait_for(tab, place, words):
    deadline = time.monotonic() + 30
    while words not in (shown := tab.inner_text(place)):
        assert time.monotonic() < deadline, f"{place} is {shown!r}, not {words!r}"
        tab.wait_for_timeout(50)


def test_a_server_that_returns_is_found(opened):
    with _served(0, 5, _records(5)) as port:
        tab = opened(f"http://127.0.0.1:{port}/")
        _wait_for(tab, "#step", "step 5 of 100")
        assert tab.inner_text("#connection-words") == "live"
        assert tab.complaints == []
    _wait_for(tab, "#connection-words", "No connection since ")
    assert "The connection is lost." in tab.text_content("#announcer")
    assert tab.inner_text("#step") == "step 5 of 100"  # what was known stays
    with _served(port, 3, _records(3)):  # resumed from an older checkpoint
        _wait_for(tab, "#step", "step 3 of 100")
        assert tab.inner_text("#connection-words") == "live"
        assert tab.evaluate("records.length") == 3
        tab.close()
    tab.complaints.clear()  # the browser's own, of a server that was gone


def test_a_silent_run_is_shown_and_a_dead_connection_is_opened_again(opened):
    with _served(0, 5, _records(5)) as port:
        tab = opened(f"http://127.0.0.1:{port}/")
        _wait_for(tab, "#step", "step 5 of 100")
        tab.evaluate("heard -= 90_000")  # as if the last state had come so many milliseconds ago
        _wait_for(tab, "#connection-words", "live; the run has reported nothing for 1 min 3")
        tab.evaluate("lastHeard -= 90")  # nor did the server show that it lives
        deadline = time.monotonic() + 30
        while tab.inner_text("#connection-words") != "live":
            assert time.monotonic() < deadline
            tab.wait_for_timeout(50)
        assert [url.rpartition("/")[2] for url in tab.requests].count("events") == 2
        tab.close()
        assert all(complaint.endswith("/events") for complaint in tab.complaints)
        tab.complaints.clear()  # of the connections that were given up


def test_a_token_opens_the_page_and_leaves_the_address(opened):
    with _served(0, 5, _records(5), "a-token-of-the-user-01") as port:
        tab = opened(f"http://127.0.0.1:{port}/?token=a-token-of-the-user-01")
        _wait_for(tab, "#step", "step 5 of 100")
        assert tab.inner_text("#connection-words") == "live"
        assert tab.url == f"http://127.0.0.1:{port}/"
        assert tab.complaints == []
        tab.goto(tab.url)
        _wait_for(tab, "#step", "step 5 of 100")
        tab.close()
        tab.complaints.clear()  # of the connections that the first page had
