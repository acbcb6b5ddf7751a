"""The log of events, its rotation, and its replay."""

import json
import pathlib
from collections.abc import Iterator

import pytest
from simulated_world import World, spec

from kipper.common.errors import UserError
from kipper.server.scheduler import events
from kipper.server.scheduler.event_log import EventLog, read_state, replay
from kipper.server.scheduler.rules import VERSION, Policy
from kipper.server.scheduler.scheduler import Scheduler

POLICY = Policy(max_bytes_out=350, verify_fraction=0.5, seed=3, patience_seconds=float("inf"))


def eventful(world: World) -> None:
    """A run in which every kind of event happens."""
    for worker in "abc":
        world.join(worker)
    world.queue([spec(block, prefers="c", priority=block % 2) for block in range(12)])
    for kind in (events.TRANSPORT, events.MISSING, events.FAILED):
        world.fail(world.errands[0], kind)
        world.pass_time(1.0)
    world.drain("a")
    world.withdraw([7, 8])
    world.do(*world.sent[0])
    world.leave("b")
    world.pass_time(950.0)
    for worker in "def":
        world.join(worker)
    world.pass_time(10.0)
    world.do_all()


@pytest.fixture
def world() -> World:
    world = World(POLICY)
    eventful(world)
    assert world.aborted is None
    return world


@pytest.fixture
def log(tmp_path: pathlib.Path, world: World) -> pathlib.Path:
    path = tmp_path / "events.jsonl"
    written = EventLog(path, Scheduler(POLICY))
    for record in world.history:
        written.record(*record)
    written.close()
    return path


def edited(path: pathlib.Path, line: int, change) -> None:
    lines = path.read_text().split("\n")
    lines[line] = change(lines[line])
    path.write_text("\n".join(lines))


# --- replay ---------------------------------------------------------------------------------------


def test_a_log_replays_to_the_same_instructions(log: pathlib.Path) -> None:
    assert replay(log) == len(log.read_text().split("\n")) - 2 > 30


def test_a_line_cut_short_by_a_crash_is_left_out(log: pathlib.Path) -> None:
    count = replay(log)
    log.write_text(log.read_text()[:-20])
    assert replay(log) == count - 1


def test_a_log_can_be_read_while_it_is_written(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "events.jsonl"
    scheduler = Scheduler(POLICY)
    written = EventLog(path, scheduler)
    written.record(1.0, events.Tick(), scheduler.handle(events.Tick(), 1.0))
    written.flush()
    assert replay(path) == 1
    written.close()


def test_other_instructions_than_those_recorded_are_found(log: pathlib.Path) -> None:
    edited(log, 4, lambda line: line.replace('"a"', '"b"', 1) if "SendBlock" in line else line)

    def add(line: str) -> str:
        record = json.loads(line)
        record["then"].append(["SendBlock", "z", 99])
        return json.dumps(record)

    edited(log, 4, add)
    with pytest.raises(UserError, match=r"Event 4 of .* was answered by .*99"):
        replay(log)


def test_another_policy_gives_other_instructions(log: pathlib.Path) -> None:
    edited(log, 0, lambda line: line.replace('"max_bytes_out":350', '"max_bytes_out":100000'))
    with pytest.raises(UserError, match="was answered by"):
        replay(log)


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        '{"at":1,"event":["Reboot"],"then":[]}',
        '{"at":1,"event":["SendBlock","a",1],"then":[]}',
        '{"event":["Tick"]}',
        "[]",
        '{"at":1}',
    ],
)
def test_a_damaged_line_is_named(log: pathlib.Path, damage: str) -> None:
    edited(log, 3, lambda line: damage)
    with pytest.raises(UserError, match=r"Line 4 of .*events\.jsonl is damaged"):
        replay(log)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{}\n",
        "hello",
        '{"policy":{"colour":1}}\n',
        "[]\n",
        '{"policy":{},"state":[1]}\n',
        '{"policy":{},"state":{"ledger":7}}\n',
    ],
)
def test_a_file_that_is_not_a_log_is_refused(tmp_path: pathlib.Path, content: str | None) -> None:
    path = tmp_path / "other.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="is not an event log of kipper"):
        replay(path)


def test_a_log_without_the_schedulers_state_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"policy":{"seed":1},"counters":{"sent":0}}\n')
    with pytest.raises(UserError, match="was written by an earlier version of kipper"):
        replay(path)


def test_a_log_of_earlier_rules_is_refused_and_still_read(log: pathlib.Path) -> None:
    version = f'"rules":{VERSION},'
    edited(log, 0, lambda line: line.replace(version, "").replace('"health":', '"ills":'))
    with pytest.raises(UserError, match="was written by an earlier version of kipper"):
        replay(log)
    policy, state = read_state(log.read_text().split("\n")[0])
    assert policy == POLICY
    assert state is not None


# --- files ----------------------------------------------------------------------------------------


def test_the_log_of_an_earlier_coordinator_is_kept(log: pathlib.Path) -> None:
    before = log.read_text()
    EventLog(log, Scheduler(Policy())).close()
    assert replay(log) == 0
    assert (log.parent / "events.jsonl.1").read_text() == before


def parts_of(path: pathlib.Path, world: World, max_characters: int) -> Iterator[int]:
    """Handles the world's events again and logs them; returns the number of events in each part.

    Every decision must be as in the world, and every part must replay.
    """
    scheduler = Scheduler(POLICY)
    log = EventLog(path, scheduler, max_characters)
    earlier = path.with_name("events.jsonl.1")
    for now, event, instructions in world.history:
        assert scheduler.handle(event, now) == instructions
        log.record(now, event, instructions)
        if earlier.exists():
            yield replay(earlier)
            earlier.unlink()
    log.close()
    yield replay(path)


@pytest.mark.parametrize("max_characters", [1, 300, 1000, 3000, 10**9])
def test_the_length_of_the_log_changes_no_decision_and_every_part_replays(
    tmp_path: pathlib.Path, world: World, max_characters: int
) -> None:
    parts = list(parts_of(tmp_path / "events.jsonl", world, max_characters))
    assert sum(parts) == len(world.history)
    assert (len(parts) == 1) == (max_characters == 10**9)
    if max_characters == 1:
        assert set(parts[:-1]) == {1}


@pytest.mark.parametrize("value", [["Nothing"], [], ["SendBlock"], ["SendBlock", 1, 2, 3], [[]], 7])
def test_json_that_is_no_event_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="neither an event nor an instruction"):
        events.from_json(value)
