"""The worker's side of registration, against scripted coordinators."""

import concurrent.futures

import pytest

from kipper.common import messages, wire
from kipper.common.errors import TemporaryError, UserError
from kipper.common.messages import Failure, Goodbye, Heartbeat, Hello, Leave, Welcome
from kipper.launch.link.registration import (
    CoordinatorClient,
    Registration,
    Unreachable,
    WronglyCertified,
)
from kipper.launch.link.transports.transport import ChannelError

AWAY = Unreachable("away")
UNKNOWN = Failure(messages.UNKNOWN, "Who are you?")


class Time:
    """A clock that waiting moves, and a request to stop that comes at a given time."""

    def __init__(self, asked_at=float("inf"), urgent_at=float("inf")):
        self.now = 0.0
        self.waits = []
        self._asked_at, self._urgent_at = asked_at, urgent_at

    def __call__(self):
        return self.now

    def is_asked(self):
        return self.now >= self._asked_at

    def is_urgent(self):
        return self.now >= self._urgent_at

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now += seconds
        return self.is_asked()

    def wait_until_urgent(self, seconds):
        self.now += seconds
        return self.is_urgent()


def _registration(answers, time, patience=None):
    """A registration whose calls get the answers in turn, and then the last one repeatedly."""
    calls, answers = [], list(answers)

    def ask(call):
        calls.append(call)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    registration = Registration(ask, "w", "1", lambda: "host:7", patience, time, time)
    return registration, calls


def _kinds(calls):
    return [type(call) for call in calls]


def test_hello_heartbeats_and_the_end_of_the_run():
    time = Time()
    registration, calls = _registration(
        [Welcome(2.0), Welcome(5.0), Goodbye("over", is_over=True)], time
    )
    assert registration.stay().reason == "over"
    assert _kinds(calls) == [Hello, Heartbeat, Heartbeat]
    assert calls[0].address == "host:7"
    assert calls[0].protocol_version == messages.PROTOCOL_VERSION
    first, second = time.waits
    assert 1.0 < first <= 2.0
    assert 3.0 < second <= 5.0


def test_a_coordinator_that_is_away_is_waited_for_ever_longer():
    time = Time()
    registration, calls = _registration(
        [*[AWAY] * 40, Welcome(1.0), Goodbye("over", is_over=True)], time
    )
    assert registration.stay().reason == "over"
    assert _kinds(calls) == [Hello] * 41 + [Heartbeat]
    pauses = time.waits[:40]
    assert pauses[0] <= 0.2
    assert all(pause <= 5.0 for pause in pauses)
    assert min(pauses[-5:]) >= 2.5


WRONG = WronglyCertified("host: UNAVAILABLE: CERTIFICATE_VERIFY_FAILED: certificate has expired")


def test_a_wrong_certificate_is_final_if_it_stays():
    time = Time()
    registration, _ = _registration([WRONG], time)
    with pytest.raises(UserError, match=r"does not fit .* \(.*certificate has expired\)"):
        registration.stay()
    assert time.now < 10


def test_a_wrong_certificate_for_a_moment_is_another_run_at_the_same_port():
    time = Time()
    registration, _ = _registration(
        [*[WRONG] * 5, AWAY, *[WRONG] * 5, Welcome(1.0), *[WRONG] * 5, Goodbye("over", True)], time
    )
    assert registration.stay().reason == "over"


def test_a_coordinator_that_came_back_is_greeted_again():
    answers = [Welcome(1.0), AWAY, AWAY, UNKNOWN, Welcome(1.0), Goodbye("over", is_over=True)]
    registration, calls = _registration(answers, Time())
    assert registration.stay().reason == "over"
    assert _kinds(calls) == [Hello, Heartbeat, Heartbeat, Heartbeat, Hello, Heartbeat]


def test_a_coordinator_that_never_knows_is_not_asked_without_pause():
    time = Time(asked_at=100.0)
    registration, calls = _registration([UNKNOWN], time)
    assert registration.stay() is None
    assert len(calls) < 100


def test_a_refusal_ends_it_with_the_sentence():
    registration, _ = _registration([Failure(messages.REFUSED, "No, because.")], Time())
    with pytest.raises(UserError, match=r"No, because\."):
        registration.stay()
    assert registration.leave(10.0)


def test_a_process_that_was_set_aside_ends_so_that_another_one_starts():
    aside = Failure(messages.SET_ASIDE, "It failed six blocks in a row.")
    registration, _ = _registration([Welcome(1.0), aside], Time())
    with pytest.raises(TemporaryError, match="six blocks in a row"):
        registration.stay()
    assert registration.leave(10.0)


def test_patience_ends():
    registration, _ = _registration([Welcome(1.0), AWAY], Time(), patience=30.0)
    with pytest.raises(Unreachable, match="longer than --patience=30"):
        registration.stay()


def test_leaving_waits_for_the_last_blocks():
    time = Time(asked_at=5.0)
    answers = [*[Welcome(1.0)] * 20, Goodbye("left", is_over=False)]
    registration, calls = _registration(answers, time)
    assert registration.stay() is None
    assert registration.leave(60.0)
    assert Leave in _kinds(calls)
    assert _kinds(calls).index(Leave) == len(calls) - _kinds(calls).count(Leave)


@pytest.mark.parametrize("time", [Time(asked_at=3.0), Time(asked_at=3.0, urgent_at=5.0)])
def test_leaving_ends_at_the_deadline_or_when_it_is_urgent(time):
    registration, _ = _registration([Welcome(1.0)], time)
    registration.stay()
    assert not registration.leave(10.0)
    assert time.now < 15.0


def test_leaving_one_that_is_away_takes_no_time():
    time = Time(asked_at=3.0)
    registration, _ = _registration([*[Welcome(2.0)] * 2, AWAY], time)
    registration.stay()
    asked = time.now
    assert registration.leave(10.0)
    assert time.now == asked


class FakeChannel:
    """A transport and its channel; a function gives the answers."""

    def __init__(self, answer):
        self._answer = answer

    def connect(self, address):
        return self

    def submit(self, payload):
        return self

    def result(self, seconds):
        return self._answer()

    def cancel(self):
        return True


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: _raise(ChannelError("cut off")), "cut off"),
        (lambda: _raise(concurrent.futures.TimeoutError()), "no answer within 10 s"),
        (lambda: b"nonsense", "not a kipper message"),
        (lambda: wire.encode(messages.Done()), "a Done came back"),
    ],
)
def test_whatever_is_no_answer_means_unreachable(monkeypatch, answer, reason):
    monkeypatch.setattr("kipper.launch.link.registration.is_listening", lambda address: True)
    with pytest.raises(Unreachable, match=reason):
        CoordinatorClient("host:7", FakeChannel(answer)).ask(Heartbeat("w", "1"))


def test_nobody_is_called_where_nobody_listens():
    channel = FakeChannel(lambda: pytest.fail("it was called"))
    with pytest.raises(Unreachable, match="nobody listens"):
        CoordinatorClient("localhost:1", channel).ask(Heartbeat("w", "1"))
