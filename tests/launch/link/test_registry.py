"""The registry of workers, with a pool that only records calls."""

import contextlib
import resource
import threading
import typing

import pytest
from fake_pool import FakePool
from hypothesis import given
from hypothesis import strategies as st

from kipper.common import messages, wire
from kipper.common.errors import Interrupted, TemporaryError, WorkerError
from kipper.common.messages import Failure, Goodbye, Heartbeat, Hello, Leave, Welcome
from kipper.launch.link.registry import SILENT_HEARTBEATS, Registry, open_registry
from kipper.launch.link.transports.caller import called_by
from kipper.launch.processes.process import allow_open_files


class Link:
    made: typing.ClassVar[list] = []

    def __init__(self, name, address):
        self.name, self.host, self.address, self.closed = name, "", address, False
        self.made.append(self)

    def close(self):
        self.closed = True


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def pool():
    return FakePool()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry(pool, clock):
    Link.made = []
    return Registry(pool, Link, capacity=3, clock=clock)


def _say(registry, call):
    return wire.decode(registry.handle(wire.encode(call)))


def _hello(registry, worker="w", incarnation="1", address="host:7", version=None):
    version = messages.PROTOCOL_VERSION if version is None else version
    return _say(registry, Hello(version, worker, incarnation, address))


def test_hello_joins_once_and_heartbeats_keep_it(registry, pool):
    for _ in range(2):
        answer = _hello(registry)
        assert isinstance(answer, Welcome)
        assert answer.heartbeat_seconds > 0
    assert isinstance(_say(registry, Heartbeat("w", "1")), Welcome)
    assert pool.events == [("join", "w")]


def test_another_process_of_the_same_name_replaces_the_first(registry, pool):
    _hello(registry, incarnation="1", address="host:7")
    assert isinstance(_hello(registry, incarnation="2", address="host:8"), Welcome)
    assert pool.events == [
        ("join", "w"),
        ("leave", "w", "another process has the same name"),
        ("join", "w"),
    ]
    assert [(link.address, link.closed) for link in Link.made] == [
        ("host:7", True),
        ("host:8", False),
    ]
    for late in (Heartbeat("w", "1"), Leave("w", "1")):
        assert isinstance(_say(registry, late), Goodbye)
    assert len(pool.events) == 3
    assert isinstance(_say(registry, Heartbeat("w", "2")), Welcome)


def test_a_worker_that_was_killed_and_started_again_is_not_taken_for_two(registry, pool, clock):
    _hello(registry, incarnation="1")
    clock.now += 2.5  # without a heartbeat
    _hello(registry, incarnation="2")
    left = ("leave", "w", "its process ended, and a new one has taken its place")
    assert pool.events == [("join", "w"), left, ("join", "w")]


def test_an_unknown_worker_is_asked_to_say_hello(registry, pool):
    answer = _say(registry, Heartbeat("w", "1"))
    assert isinstance(answer, Failure)
    assert answer.kind == messages.UNKNOWN
    assert pool.events == []


def test_one_that_the_pool_gave_up_may_come_back(registry, pool):
    _hello(registry)
    pool.give_up("w")
    assert _say(registry, Heartbeat("w", "1")).kind == messages.UNKNOWN
    assert isinstance(_hello(registry), Welcome)
    assert [event[0] for event in pool.events] == ["join", "join"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"version": 1}, "install the same kipper on both"),
        ({"worker": "a b"}, "cannot be a worker's name"),
        ({"worker": "liar"}, "Worker liar is banned from this run: it lied."),
        ({"address": "host"}, "'host' is not an address"),
    ],
)
def test_refusals_say_why(registry, pool, fields, sentence):
    pool.banned["liar"] = "it lied"
    answer = _hello(registry, **fields)
    assert isinstance(answer, Failure)
    assert answer.kind == messages.REFUSED
    assert sentence in answer.message
    assert pool.events == []


def test_a_worker_banned_meanwhile_is_told_at_its_next_heartbeat(registry, pool):
    _hello(registry)
    pool.banned["w"] = "it lied"
    assert _say(registry, Heartbeat("w", "1")).kind == messages.REFUSED


def test_a_process_that_was_set_aside_ends_and_the_next_one_waits(registry, pool):
    _hello(registry)
    pool.aside["w"] = "Worker w was set aside: it failed. A new process may join in 10 s."
    pool.give_up("w")
    answer = _say(registry, Heartbeat("w", "1"))
    assert (answer.kind, answer.message) == (messages.SET_ASIDE, pool.aside["w"])
    answer = _hello(registry, incarnation="2")
    assert (answer.kind, answer.message) == (messages.FAILED, pool.aside["w"])  # not final
    del pool.aside["w"]
    assert isinstance(_hello(registry, incarnation="2"), Welcome)
    assert [event[0] for event in pool.events] == ["join", "join"]


def test_a_callers_own_certificate_is_noted_before_it_may_join(registry, pool):
    with called_by("ab12"):
        _hello(registry)
    _hello(registry, worker="other")
    assert pool.certificates == {"w": "ab12"}


def test_no_more_workers_than_there_are_files_for(registry):
    for i in range(3):
        assert isinstance(_hello(registry, worker=f"w{i}"), Welcome)
    answer = _hello(registry, worker="w3")
    assert answer.kind == messages.FAILED  # not final: it tries again
    assert "room for 3 workers only" in answer.message
    assert isinstance(_hello(registry, worker="w0", incarnation="2"), Welcome)


def test_a_newcomer_takes_the_place_of_the_longest_silent_that_never_did_anything(
    registry, pool, clock
):
    _hello(registry, worker="stranger")
    clock.now += 1
    _hello(registry, worker="another")
    _hello(registry, worker="real")
    pool.computed.add("real")
    for _ in range(6):
        clock.now += 1
        _say(registry, Heartbeat("another", "1"))
    assert isinstance(_hello(registry, worker="newcomer"), Welcome)
    assert ("leave", "stranger", "no sign of life for 7 s, and another worker waits") in pool.events
    assert _hello(registry, worker="second").kind == messages.FAILED
    # It is told to say hello again, and nothing is lost.
    assert _say(registry, Heartbeat("stranger", "1")).kind == messages.UNKNOWN


def test_members_that_have_computed_are_not_displaced(registry, pool, clock):
    for name in ("a", "b", "c"):
        _hello(registry, worker=name)
        pool.computed.add(name)
    clock.now += 20
    assert _hello(registry, worker="newcomer").kind == messages.FAILED
    assert [event[0] for event in pool.events] == ["join"] * 3


def test_one_that_has_shown_life_is_given_more_time(registry, pool, clock):
    for name in ("a", "b", "c"):
        _hello(registry, worker=name)
        _say(registry, Heartbeat(name, "1"))
    clock.now += 7
    assert _hello(registry, worker="newcomer").kind == messages.FAILED
    clock.now += 2
    assert isinstance(_hello(registry, worker="newcomer"), Welcome)


def test_a_full_coordinator_of_dead_workers_lets_real_ones_in_within_seconds(pool, clock):
    registry = Registry(pool, Link, capacity=3000, clock=clock)
    for i in range(3000):
        _hello(registry, worker=f"dead{i}")
    waited = 0
    for i in range(100):
        while not isinstance(_hello(registry, worker=f"real{i}"), Welcome):
            clock.now += 1
            waited += 1
        pool.computed.add(f"real{i}")
    assert waited <= 12  # the first seconds, and then ten joins a second
    assert len([event for event in pool.events if event[0] == "leave"]) == 100


def test_hellos_without_end_are_slowed_down(pool, clock):
    registry = Registry(pool, Link, capacity=3, clock=clock)
    answers = [_hello(registry, worker="w", incarnation=str(i)) for i in range(1000)]
    assert sum(isinstance(answer, Welcome) for answer in answers) == 100
    assert answers[-1].kind == messages.FAILED
    clock.now += 1
    assert isinstance(_hello(registry, worker="w", incarnation="last"), Welcome)


def test_a_leaving_worker_waits_for_its_blocks(registry, pool):
    _hello(registry)
    pool.out["w"] = 2
    assert isinstance(_say(registry, Leave("w", "1")), Welcome)
    pool.out["w"] = 0
    for _ in range(2):  # the first answer may be lost
        assert isinstance(_say(registry, Leave("w", "1")), Goodbye)
    assert pool.events == [
        ("join", "w"),
        ("drain", "w"),
        ("drain", "w"),
        ("leave", "w", "it left"),
    ]


def test_the_silent_are_given_up_and_the_others_are_not(registry, pool, clock):
    _hello(registry, worker="silent")
    _hello(registry, worker="alive")
    for _ in range(SILENT_HEARTBEATS):
        clock.now += 3.5
        _say(registry, Heartbeat("alive", "1"))
        registry.sweep()
    assert pool.events[2:] == [("leave", "silent", "no sign of life for 32 s")]


def test_a_coordinator_that_slept_gives_nobody_up(registry, pool, clock):
    _hello(registry)
    clock.now += 3600
    registry.sweep()
    assert list(pool.links) == ["w"]


def test_more_workers_give_fewer_signs_of_life(pool, clock):
    registry = Registry(pool, Link, capacity=1000, clock=clock)
    first = _hello(registry).heartbeat_seconds
    for i in range(500):
        last = _hello(registry, worker=f"w{i}").heartbeat_seconds
    assert first < last <= 10


def test_after_the_end_all_are_told_goodbye(registry, pool):
    _hello(registry)
    registry.close("The run is over.", is_over=True)
    threading.Timer(0.05, lambda: _say(registry, Heartbeat("w", "1"))).start()
    registry.wait_until_all_know(60.0)
    for answer in (_hello(registry), _say(registry, Leave("x", "1"))):
        assert isinstance(answer, Goodbye)
        assert (answer.reason, answer.is_over) == ("The run is over.", True)
    assert pool.events == [("join", "w")]


@given(payload=st.binary(max_size=200))
def test_no_bytes_raise(payload):
    registry = Registry(FakePool(), Link, capacity=1, clock=Clock())
    assert wire.decode(registry.handle(payload)).kind == messages.DAMAGED


def test_messages_that_are_no_calls_are_refused(registry):
    for message in (messages.Done(), messages.Cancel(3), Welcome(1.0)):
        assert _say(registry, message).kind == messages.REFUSED


def test_a_pool_that_fails_is_an_answer_too(registry, pool):
    pool.join = None
    assert _hello(registry).kind == messages.FAILED


class FakeTransport:
    name = "fake"

    def listen(self, handle, port=0):
        self.handle, self.port, self.closed = handle, port, False
        return self

    def connect(self, address):
        raise NotImplementedError

    def close(self):
        self.closed = True


def test_an_open_registry_listens_and_at_the_end_says_goodbye(pool):
    transport = FakeTransport()
    with open_registry(pool, Link, transport, 7) as registry:
        assert transport.port == 7
        assert isinstance(
            _say(registry, Hello(messages.PROTOCOL_VERSION, "w", "1", "h:1")), Welcome
        )
        threading.Timer(0.2, lambda: _say(registry, Heartbeat("w", "1"))).start()
    assert transport.closed
    assert isinstance(_say(registry, Heartbeat("w", "1")), Goodbye)


@pytest.mark.parametrize(
    ("error", "is_over"),
    [
        (None, True),
        (WorkerError("No."), True),
        (Interrupted(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_workers_are_told_whether_the_run_may_go_on(pool, error, is_over):
    ended = contextlib.suppress(WorkerError, Interrupted, KeyboardInterrupt)
    with ended, open_registry(pool, Link, FakeTransport(), 7) as registry:
        if error is not None:
            raise error
    assert _hello(registry).is_over == is_over


def test_workers_wait_for_a_coordinator_that_is_restarted(pool):
    ended = contextlib.suppress(TemporaryError)
    with ended, open_registry(pool, Link, FakeTransport(), 7) as registry:
        raise TemporaryError("The disk is full.")
    assert isinstance(_hello(registry), Welcome)


def test_files_may_be_open_up_to_the_hard_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        assert allow_open_files() >= 256
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_that_failed_its_set_up_hears_why_and_a_new_one_may_try(registry, pool):
    _hello(registry)
    pool.refused["w"] = "it computes by beads"
    pool.give_up("w")
    calls = (Heartbeat("w", "1"), Heartbeat("w", "1"))
    for answer in (*(_say(registry, call) for call in calls), _hello(registry)):
        assert (answer.kind, answer.message) == (
            messages.REFUSED,
            "Worker w is refused: it computes by beads.",
        )
    assert [event for event in pool.events if event[0] == "join"] == [("join", "w")]
    assert isinstance(_hello(registry, incarnation="2"), Welcome)
