"""A scheduler with its log, which is begun anew when it is long."""

import pathlib

import pytest
from simulated_world import spec

from kipper.server.scheduler import events, recorded
from kipper.server.scheduler.event_log import replay
from kipper.server.scheduler.recorded import RecordedScheduler
from kipper.server.scheduler.rules import Policy


def test_without_a_path_nothing_is_written(tmp_path: pathlib.Path) -> None:
    scheduler = RecordedScheduler(Policy(), None)
    assert scheduler.handle(events.WorkerJoined("a"), 1.0) == []
    scheduler.tend(2.0)
    scheduler.close()
    assert list(tmp_path.iterdir()) == []


def test_the_log_is_readable_while_the_run_goes_on(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "events.jsonl"
    scheduler = RecordedScheduler(Policy(), path)
    scheduler.handle(events.WorkerJoined("a"), 1.0)
    scheduler.tend(2.0)
    assert replay(path) == 1
    scheduler.close()
    scheduler.handle(events.Tick(), 3.0)  # heard no more
    assert replay(path) == 1


def test_a_long_log_is_begun_anew_between_blocks(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "LOG_BYTES", 1)
    path = tmp_path / "events.jsonl"
    scheduler = RecordedScheduler(Policy(verify_fraction=0.5, seed=3), path)
    for worker in "abc":
        scheduler.handle(events.WorkerJoined(worker), 1.0)
    scheduler.handle(events.WorkerDraining("b"), 1.0)
    scheduler.handle(events.BlocksQueued((spec(1, prefers="c"),)), 2.0)
    first = scheduler.scheduler
    scheduler.tend(3.0)
    assert scheduler.scheduler is first  # a block is under way
    for worker in list(first.ledger.blocks[1].out):
        scheduler.handle(events.BlockFinished(worker, 1, ()), 4.0)
    scheduler.tend(5.0)
    assert scheduler.scheduler is not first
    assert {name: r.draining for name, r in scheduler.scheduler.ledger.workers.items()} == {
        "a": False,
        "b": True,
        "c": False,
    }
    assert scheduler.scheduler.counters.accepted == 1
    scheduler.handle(events.BlocksQueued((spec(2), spec(3))), 6.0)
    scheduler.close()
    assert replay(path) == 5
    assert replay(tmp_path / "events.jsonl.1") == 6
