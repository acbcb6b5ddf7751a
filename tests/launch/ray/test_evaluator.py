"""The sink that scores the newest snapshot beside the run, with a keeper that records its calls."""

import contextlib
import threading

import numpy as np
import pytest

from kipper.common.errors import WorkerError
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.ray.evaluator import evaluating
from kipper.server.learned_set import LearnedSet
from kipper.server.snapshots import SupportSnapshot


def _snapshot(step):
    return SupportSnapshot(step, LearnedSet(np.zeros((1, 2, 2, 1)), np.zeros((1, 1))), 0.5)


class Keeper:
    """Records what it is told; scoring waits until it is let go."""

    def __init__(self):
        self.calls = []
        self.opened = 0
        self.may_score = threading.Event()
        self.is_scoring = threading.Event()
        self.error = None

    def put(self, snapshot):
        self.is_scoring.set()
        assert self.may_score.wait(10)
        self.calls.append(snapshot.step)
        if (error := self.error) is not None:
            self.error = None
            raise error

    def go_back(self, step):
        self.calls.append(f"back to {step}")

    @contextlib.contextmanager
    def scoring(self, check_open):
        self.opened += 1
        yield self


@pytest.fixture
def keeper():
    return Keeper()


@pytest.fixture
def sink(keeper):
    with evaluating(keeper.scoring) as make_sink:
        yield make_sink(StopRequest())
        keeper.may_score.set()


def test_the_newest_is_scored_and_the_run_does_not_wait(sink, keeper):
    sink.put(_snapshot(0))
    assert keeper.is_scoring.wait(10)
    for step in (1, 2, 3):
        sink.put(_snapshot(step))  # while the first is being scored
    keeper.may_score.set()
    sink.finish()
    assert keeper.calls == [0, 3]


def test_going_back_forgets_what_waits_and_what_was_scored(sink, keeper):
    sink.put(_snapshot(0))
    assert keeper.is_scoring.wait(10)
    sink.put(_snapshot(7))
    sink.go_back(5)
    sink.go_back(6)
    keeper.may_score.set()
    sink.finish()
    assert keeper.calls == [0, "back to 5"]
    sink.put(_snapshot(5))
    sink.finish()
    assert keeper.calls == [0, "back to 5", 5]


def test_the_earliest_step_to_go_back_to_counts_be_it_the_first(sink, keeper):
    sink.put(_snapshot(0))
    assert keeper.is_scoring.wait(10)
    sink.go_back(0)
    sink.go_back(6)
    keeper.may_score.set()
    sink.finish()
    assert keeper.calls == [0, "back to 0"]


def test_a_snapshot_that_cannot_be_scored_is_given_up_and_the_next_one_is_scored(sink, keeper):
    keeper.error = WorkerError("no worker came")
    keeper.may_score.set()
    sink.put(_snapshot(0))
    sink.finish()
    sink.put(_snapshot(1))
    sink.finish()
    assert (keeper.calls, keeper.opened) == ([0, 1], 2)


def test_a_run_that_is_to_stop_does_not_wait_for_the_last_score(keeper):
    stop = StopRequest()
    with evaluating(keeper.scoring) as make_sink:
        sink = make_sink(stop)
        sink.put(_snapshot(0))
        assert keeper.is_scoring.wait(10)
        stop.ask()
        sink.finish()
        assert keeper.calls == []
        keeper.may_score.set()
