"""How long a coordinator waits for the evaluator at the end of a run."""

import numpy as np
import pytest

from kipper.launch.reverb_snapshots import ReverbSink
from kipper.server.learned_set import LearnedSet
from kipper.server.snapshots import SupportSnapshot


class Time:
    """A clock that waiting moves, and a request to stop that never comes."""

    now = 0.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds
        return False


@pytest.fixture
def time(monkeypatch):
    monkeypatch.setattr(ReverbSink, "_write", lambda self: None)  # there is no Reverb server
    return Time()


def _finish(time, seconds_of_a_call, scored_step, gone_back=()):
    """Seconds that `finish` takes if each call to the evaluator takes a given time."""

    def ask():
        time.now += seconds_of_a_call
        return scored_step(time.now)

    sink = ReverbSink("localhost:1", ask, time, time)
    for step in gone_back:
        sink.go_back(step)
    sink.put(SupportSnapshot(7, LearnedSet(np.zeros((1, 2, 2, 1)), np.zeros((1, 1))), 0.5))
    sink.finish()
    return time.now


@pytest.mark.parametrize("seconds_of_a_call", [0.0, 10.0])
def test_an_evaluator_that_does_not_answer_is_waited_for_two_minutes(time, seconds_of_a_call):
    assert 120.0 <= _finish(time, seconds_of_a_call, lambda now: (0, -1)) < 131.0


def test_the_wait_ends_when_the_last_snapshot_is_scored(time):
    assert 30.0 <= _finish(time, 0.0, lambda now: (0, 7 if now >= 30.0 else 6)) < 31.0


def test_a_score_from_before_the_run_went_back_does_not_count(time):
    def scored(now):
        return (1, 7) if now >= 30.0 else (0, 9)

    assert 30.0 <= _finish(time, 0.0, scored, gone_back=[4]) < 31.0
