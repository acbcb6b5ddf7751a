"""`kipper replay`: a run's log of its scheduler, decided once more."""

import pathlib

from kipper.common.settings import ReplaySettings
from kipper.server.scheduler.event_log import replay


def print_replay(settings: ReplaySettings) -> None:
    """Says how many events gave the instructions that the log holds.

    Raises:
        UserError: it is no such log, or this version decides otherwise.
    """
    settings.check()
    count = replay(pathlib.Path(settings.log))
    print(f"{count:,} events gave the same instructions as in {settings.log}")
