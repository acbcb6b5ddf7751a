"""The scheduler's log: its events and instructions, one JSON line each, and their replay.

The first line of a file holds the policy and the scheduler's state at that point, so each file can
be replayed by itself: its events are given to a new scheduler in that state, which must answer with
the recorded instructions.
"""

import dataclasses
import json
import math
import pathlib
import typing
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from kipper.common.errors import UserError
from kipper.common.files import Dispensable, open_log
from kipper.common.sealed import sealed
from kipper.common.strict_json import json_text
from kipper.server.scheduler.decoding import decode
from kipper.server.scheduler.events import Event, Instruction, from_json, to_json
from kipper.server.scheduler.rules import VERSION, Policy
from kipper.server.scheduler.scheduler import Scheduler
from kipper.server.scheduler.state import State

MAX_CHARACTERS = 64 * 2**20


class Record(NamedTuple):
    """An event, its time, and the scheduler's instructions."""

    now: float
    event: Event
    instructions: list[Instruction]


class EventLog:
    """Writes the log of a scheduler.

    A file that has grown too long is renamed to `path` + ".1" and a new one is begun, which does
    not affect the scheduler. Nor does a file that cannot be written.

    Attributes:
        num_lines: written to the file after its first; each line carries its number and a checksum.

    Args:
        path: the log; an existing file is renamed as well.
        scheduler: before its next event.
        max_characters: length at which a new file is begun.
    """

    def __init__(
        self, path: pathlib.Path, scheduler: Scheduler, max_characters: int = MAX_CHARACTERS
    ):
        self._path = path
        self._scheduler = scheduler
        self._max_characters = max_characters
        self._writing = Dispensable(path)
        self._file: IO[str] | None = None
        self.num_lines = self._size = 0
        self.begin_anew()

    def record(self, now: float, event: Event, instructions: list[Instruction]) -> None:
        """Writes what the scheduler has just handled and answered."""
        then = [to_json(instruction) for instruction in instructions]
        self.num_lines += 1
        record = {"at": now, "event": to_json(event), "then": then, "line": self.num_lines}
        with self._writing.attempt():
            if self._file is not None:
                self._size += self._file.write(_line(record))
        if self._size >= self._max_characters:
            self.begin_anew()

    def begin_anew(self) -> None:
        """Begins a new file; also needed when the scheduler's policy changes."""
        self.close()
        with self._writing.attempt():
            self._file = self._begin()

    def flush(self) -> None:
        """Writes buffered lines, so that a crash loses little."""
        with self._writing.attempt():
            if self._file is not None:
                self._file.flush()

    def close(self) -> None:
        """Writes buffered lines and closes the file."""
        file, self._file = self._file, None
        with self._writing.attempt():
            if file is not None:
                file.close()

    def _begin(self) -> IO[str]:
        if self._path.exists():
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        file = open_log(self._path, "w", buffering=2**16)
        begin = {
            "rules": VERSION,
            "policy": dataclasses.asdict(self._scheduler.policy),
            "state": dataclasses.asdict(self._scheduler.state),
        }
        file.write(_line(json.loads(json.dumps(begin, default=sorted))))
        self._size = self.num_lines = 0  # without the state, which may be long itself
        return file


def _line(record: Mapping[str, object]) -> str:
    return json_text(sealed(record), separators=(",", ":")) + "\n"


def read_record(line: str) -> Record:
    """The record in a line of a log after the first.

    Raises:
        ValueError: there is none.
    """
    return record_of(json.loads(line))


def record_of(record: Any) -> Record:
    """The record that JSON holds.

    Raises:
        ValueError: there is none.
    """
    try:
        event, *instructions = map(from_json, (record["event"], *record["then"]))
        if not isinstance(event, Event):
            raise ValueError(f"{record['event']} is not an event")
        return Record(float(record["at"]), event, typing.cast(list[Instruction], instructions))
    except (LookupError, TypeError) as error:
        raise ValueError(f"{record!r:.80} is not a record") from error


def read_state(line: str) -> tuple[Policy, State | None]:
    """The policy and state in the first line of a log; earlier versions recorded no state.

    Raises:
        ValueError: there are none.
    """
    try:
        begin = json.loads(line)
        # JSON has no infinity: null is the patience of a run that workers may join.
        policy: dict[str, Any] = {
            name: math.inf if n is None else n for name, n in begin["policy"].items()
        }
        return Policy(**policy), decode(State | None, begin.get("state"))
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"{line[:80]!r} holds no policy") from error


def replay(path: pathlib.Path) -> int:
    """Gives the events of a log to a new scheduler; returns the number of events.

    A last line that a crash cut short is ignored.

    Raises:
        UserError: the file is not an event log, was written by an earlier version, or its
            instructions differ from the scheduler's.
    """
    try:
        lines = path.read_text().split("\n")
        policy, state = read_state(lines[0])
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not an event log of kipper: {error}.") from error
    if state is None or json.loads(lines[0]).get("rules") != VERSION:
        raise UserError(f"{path} was written by an earlier version of kipper; replay it with that.")
    scheduler = Scheduler(policy, state)
    count = 0
    for line in lines[1:-1]:
        try:
            record = read_record(line)
        except ValueError as error:
            raise UserError(f"Line {count + 2} of {path} is damaged: {error}.") from error
        answer = scheduler.handle(record.event, record.now)
        count += 1
        if answer != record.instructions:
            raise UserError(
                f"Event {count} of {path} was answered by {record.instructions}, "
                f"and is now answered by {answer}."
            )
    return count
