"""Requests to stop, and the signals that make them."""

import os
import signal
import threading

import pytest

from kipper.launch.processes.stopping import StopRequest


def test_once_is_after_what_is_begun_and_twice_is_at_once():
    stop = StopRequest()
    assert not stop.is_asked()
    assert not stop.wait(0.0)
    assert stop.ask() == 1
    assert stop.is_asked()
    assert not stop.is_urgent()
    assert stop.wait(60.0)
    stop.ask()
    assert stop.is_urgent()
    assert stop.wait_until_urgent(60.0)


def test_asking_at_once_is_asking_twice():
    stop = StopRequest()
    stop.ask_at_once()
    assert stop.is_asked()
    assert stop.is_urgent()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_ask_while_the_block_runs_and_not_after(number):
    stop, heard = StopRequest(), []
    before = signal.signal(number, signal.SIG_DFL)  # under nohup, hangups are ignored
    try:
        with stop.asked_by_signals(on_signal=heard.append):
            os.kill(os.getpid(), number)
            assert stop.wait(60.0)
            os.kill(os.getpid(), number)
            assert stop.wait_until_urgent(60.0)
        assert heard == [1, 2]
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with stop.asked_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.wait(0.05)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_request_follows_its_parents_and_its_condition_and_hears_its_own():
    job, over = StopRequest(), threading.Event()
    stop = StopRequest(StopRequest(), job, at_once=over.is_set)
    assert not stop.is_asked()
    job.ask()
    assert (stop.is_asked(), stop.is_urgent()) == (True, False)
    job.ask()
    assert stop.is_urgent()

    own = StopRequest(StopRequest(), at_once=over.is_set)
    assert own.ask() == 1
    assert (own.is_asked(), own.is_urgent()) == (True, False)

    ended = StopRequest(at_once=over.is_set)
    over.set()
    assert ended.is_urgent()
    assert ended.wait(60.0)
