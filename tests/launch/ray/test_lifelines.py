"""What a run does when a process of Ray that it needs stops answering."""

import itertools
import queue
import socket
import threading

import pytest
from installation import needs_ray

from kipper.common.errors import TemporaryError

pytestmark = needs_ray


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def _line(server, patience_seconds):
    from kipper.launch.ray.lifelines import Lifeline

    address = "{}:{}".format(*server.getsockname())
    return Lifeline("The head", address, patience_seconds, "the same command resumes the run")


def test_a_lost_one_ends_the_run_and_says_so(server):
    from kipper.launch.ray.lifelines import watched

    told = queue.SimpleQueue()
    with watched([_line(server, 0.2)], told.put, poll_seconds=0.01):
        assert told.empty()
        server.close()
        error = told.get(timeout=10)
    assert isinstance(error, TemporaryError)
    assert "has not answered for 0 s, so the run gets no more workers; the same" in str(error)


def test_one_that_answers_again_in_time_is_not_lost(server, monkeypatch):
    from kipper.launch.ray import lifelines

    told, done, asked = queue.SimpleQueue(), threading.Event(), itertools.count()

    def is_listening(address, seconds):
        number = next(asked)
        if number == 20:
            done.set()
        return number % 2 == 1

    monkeypatch.setattr(lifelines, "is_listening", is_listening)
    with lifelines.watched([_line(server, 0.001)], told.put, poll_seconds=0.002):
        assert done.wait(10)
    assert told.empty()
