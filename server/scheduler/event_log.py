"""What the scheduler was told and what it answered, one JSON line each: a run's black box.

The first line holds the policy. A replay gives every event to a new scheduler and compares its
instructions with those recorded.
"""

import dataclasses
import json
import pathlib
from typing import Any, TextIO

from kipper.common.errors import UserError
from kipper.server.scheduler.events import Event, Instruction, from_json, to_json
from kipper.server.scheduler.rules import Counters, Policy
from kipper.server.scheduler.scheduler import Scheduler


class EventLog:
    """Writes the log of one scheduler.

    Attributes:
        size: characters so far.

    Args:
        path: begun afresh; the log before becomes `path` + ".1".
        policy, counters: of the scheduler, before its first event.
    """

    def __init__(self, path: pathlib.Path, policy: Policy, counters: Counters):
        if path.exists():
            path.replace(path.with_name(path.name + ".1"))
        self._file: TextIO = open(path, "w", buffering=2**16)  # noqa: SIM115  closed by `close`
        self.size = 0
        begun_with = {
            "policy": dataclasses.asdict(policy),
            "counters": dataclasses.asdict(counters),
        }
        self._write(begun_with)

    def record(self, now: float, event: Event, instructions: list[Instruction]) -> None:
        """One event and what followed."""
        then = [to_json(instruction) for instruction in instructions]
        self._write({"at": now, "event": to_json(event), "then": then})

    def flush(self) -> None:
        """Writes out what is buffered, so that a crash loses little."""
        self._file.flush()

    def close(self) -> None:
        """Writes out what is buffered, and no more."""
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self.size += self._file.write(json.dumps(record, separators=(",", ":")) + "\n")


def replay(path: pathlib.Path) -> int:
    """Gives the events of a log to a new scheduler; returns how many there were.

    A last line cut short by a crash is left out.

    Raises:
        UserError: the file is no event log, or instructions differ from those recorded.
    """
    try:
        lines = path.read_text().split("\n")
        begun_with = json.loads(lines[0])
        scheduler = Scheduler(Policy(**begun_with["policy"]), Counters(**begun_with["counters"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not an event log of kipper: {error}.") from error
    count = 0
    for line in lines[1:-1]:
        try:
            record = json.loads(line)
            now, event, then = record["at"], from_json(record["event"]), record["then"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"Line {count + 2} of {path} is damaged: {error}.") from error
        instructions = scheduler.handle(event, now)  # type: ignore[arg-type]
        got = json.loads(json.dumps([to_json(instruction) for instruction in instructions]))
        count += 1
        if got != then:
            raise UserError(f"Event {count} of {path} was answered by {then}, and now by {got}.")
    return count
