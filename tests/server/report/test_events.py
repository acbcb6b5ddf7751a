"""What workers did, from logs that the real scheduler's events make."""

import json
import pathlib

import numpy as np
import pytest

from kipper.server.report.events import read_activity
from kipper.server.scheduler import events
from kipper.server.scheduler.event_log import EventLog
from kipper.server.scheduler.events import BlockSpec
from kipper.server.scheduler.rules import Policy
from kipper.server.scheduler.scheduler import Scheduler


def spec(block: int, shape: str = "K 10x500", priority: int = 0) -> BlockSpec:
    return BlockSpec(block, shape, priority, (("rows", 10),), 100)


class LoggedScheduler:
    """A scheduler whose events are logged."""

    def __init__(self, policy: Policy, path: pathlib.Path, **limit: int):
        self._scheduler = Scheduler(policy)
        self._log = EventLog(path, self._scheduler, **limit)
        self.close = self._log.close

    def handle(self, event: events.Event, now: float) -> None:
        self._log.record(now, event, self._scheduler.handle(event, now))


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "events.jsonl"


def test_spans_go_from_being_sent_or_free_to_the_answer(log: pathlib.Path) -> None:
    scheduler = LoggedScheduler(Policy(patience_seconds=10.0), log)
    scheduler.handle(events.WorkerJoined("a"), 100.0)
    blocks = (spec(1), spec(2, "vjp 10x500"), spec(3, "K 10x10 of support", priority=1))
    scheduler.handle(events.BlocksQueued(blocks), 101.0)
    for block, now in ((1, 103.0), (2, 104.0), (3, 108.0)):
        scheduler.handle(events.BlockFinished("a", block), now)
    scheduler.handle(events.WorkerLeft("a", "gone"), 109.0)
    scheduler.handle(events.Tick(), 110.0)
    scheduler.close()
    found = read_activity(log)
    assert found is not None
    assert (found.workers, found.seconds) == (("a",), 10.0)
    assert found.kind.tolist() == [0, 1, 2]
    assert found.start.tolist() == [1, 3, 4]
    assert found.stop.tolist() == [3, 4, 8]
    assert found.connected == ((0, 0.0, 9.0),)
    assert found.blocks == (3,)


def test_failures_and_answers_that_come_too_late_are_in_vain(log: pathlib.Path) -> None:
    lines = [
        {"policy": {}, "counters": {}},
        {"at": 0.0, "event": ["WorkerJoined", "a"], "then": []},
        {"at": 0.0, "event": ["WorkerJoined", "b"], "then": []},
        {
            "at": 1.0,
            "event": ["BlocksQueued", [[n, "K 1x1", 0, [], 1, None, False] for n in (1, 2, 3)]],
            "then": [["SendBlock", w, n] for w, n in (("a", 1), ("b", 1), ("a", 2), ("b", 3))],
        },
        {"at": 2.0, "event": ["BlockFinished", "a", 1, []], "then": [["AcceptAnswer", "a", 1]]},
        {"at": 3.0, "event": ["BlockFinished", "b", 1, []], "then": []},
        {"at": 4.0, "event": ["BlockFailed", "a", 2, "failed", "no"], "then": []},
        {"at": 5.0, "event": ["BlockFailed", "b", 3, "cancelled", ""], "then": []},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"at": 6, "ev')
    found = read_activity(log)
    assert found is not None
    spans = list(zip(found.worker, found.kind, found.start, found.stop, strict=True))
    assert spans == [(0, 0, 1.0, 2.0), (1, 4, 1.0, 3.0), (0, 4, 2.0, 4.0)]
    assert np.array(found.connected).tolist() == [[0, 0, 5], [1, 0, 5]]


def joined(at: float, worker: str) -> str:
    return json.dumps({"at": at, "event": ["WorkerJoined", worker], "then": []}) + "\n"


def test_the_log_that_was_set_aside_comes_first_unless_its_clock_is_another(
    log: pathlib.Path,
) -> None:
    earlier = log.with_name("events.jsonl.1")
    log.write_text('{"policy":{}}\n' + joined(50.0, "b"))
    earlier.write_text('{"policy":{}}\n' + joined(10.0, "a"))
    found = read_activity(log)
    assert found is not None
    assert (found.workers, found.seconds) == (("a", "b"), 40.0)
    earlier.write_text('{"policy":{}}\n' + joined(999.0, "a"))
    found = read_activity(log)
    assert found is not None
    assert (found.workers, found.seconds) == (("b",), 0.0)


def test_workers_and_blocks_from_before_the_log_was_rotated_are_known(log: pathlib.Path) -> None:
    scheduler = LoggedScheduler(Policy(), log, max_characters=600)
    scheduler.handle(events.WorkerJoined("a"), 10.0)
    for block in range(1, 40):
        scheduler.handle(events.BlocksQueued((spec(block),)), 10.0 + block)
        scheduler.handle(events.BlockFinished("a", block - 1), 10.5 + block)
    scheduler.close()
    assert '["WorkerJoined"' not in log.read_text() + log.with_name("events.jsonl.1").read_text()
    found = read_activity(log)
    assert found is not None
    assert found.workers == ("a",)
    assert len(found.start) > 2
    np.testing.assert_allclose((found.stop - found.start)[1:], 1.0)  # the first began before


def test_without_a_log_nothing_is_known(log: pathlib.Path) -> None:
    assert read_activity(log) is None
    log.write_text("")
    assert read_activity(log) is None
    log.write_text("no json\n")
    assert read_activity(log) is None


def test_deaths_have_a_time_and_a_reason_and_leaving_in_peace_is_none(log: pathlib.Path) -> None:
    scheduler = LoggedScheduler(Policy(), log)
    for worker in ("a", "b"):
        scheduler.handle(events.WorkerJoined(worker), 10.0)
    scheduler.handle(events.WorkerDraining("b"), 11.0)
    scheduler.handle(events.WorkerLeft("b", "it was done"), 12.0)
    scheduler.handle(events.WorkerLeft("a", "no sign of life"), 14.0)
    scheduler.handle(events.WorkerJoined("a"), 15.0)
    scheduler.close()
    found = read_activity(log)
    assert found is not None
    assert found.deaths == ((0, 4.0, "no sign of life"),)
