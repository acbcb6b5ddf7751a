"""`kipper replay`: replays the scheduler's log of a run and compares its decisions."""

import pathlib

from kipper.common.settings import ReplaySettings
from kipper.server.scheduler.event_log import replay
from kipper.server.workdir import Workdir


def print_replay(settings: ReplaySettings) -> None:
    """Prints the number of events that led to the same instructions as in the log.

    Raises:
        UserError: the file is not such a log, or this version decides differently.
    """
    settings.check()
    log = pathlib.Path(settings.log)
    if log.is_dir():
        log = Workdir(log).logs / "events.jsonl"
    print(f"{replay(log):,} events gave the same instructions as in {log}")
