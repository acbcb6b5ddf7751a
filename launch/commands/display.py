"""How a run goes, for whoever looks at the terminal; read from the run's files alone.

So one display serves a run in this process, in threads, and in processes.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from kipper.server.figures.measures import measure_of
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

POLL_SECONDS = 0.25
# Where lines stay, in the log of a cluster's job say.
SILENT_SECONDS = 60.0


@contextlib.contextmanager
def showing_progress(workdir: Workdir) -> Iterator[None]:
    """Shows progress until the block ends: one live line on a terminal, plain lines otherwise.

    Plain lines are evaluations, and after a minute without one how far the run is.
    """
    before = _Shown(len(workdir.read_records(workdir.metrics)), read_status(workdir.status))
    ended = threading.Event()
    terminal = sys.stdout  # as it is now: Launchpad's own talk is redirected to a file later
    show = _show_live if terminal.isatty() else _show_plain
    thread = threading.Thread(target=show, args=(workdir, before, ended, terminal), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Shown:
    """What has been printed of a run, beyond what was there before it."""

    def __init__(self, num_records: int, status: dict[str, Any]):
        self._records = num_records
        self._address = _address(status)

    def print_new(self, workdir: Workdir, status: dict[str, Any], show: Any) -> bool:
        """Prints the address of the run's page once, and evaluations that are new.

        Returns:
            Whether there was anything to print.
        """
        anything = False
        address = _address(status)
        if address is not None and address != self._address:
            self._address = address
            show(f"dashboard {address[1]}")
            anything = True
        records = workdir.read_records(workdir.metrics)
        for record in records[self._records :]:
            show(_evaluation_line(record))
            anything = True
        self._records = len(records)
        return anything


def _address(status: dict[str, Any]) -> tuple[int, str] | None:
    """Of a run's page, and of which process."""
    return (status["pid"], status["dashboard"]) if status.get("dashboard") else None


def _show_live(workdir: Workdir, shown: _Shown, ended: threading.Event, terminal: TextIO) -> None:
    from rich.console import Console

    console = Console(file=terminal, highlight=False)
    with console.status("starting") as line:
        while not ended.wait(POLL_SECONDS):
            status = read_status(workdir.status)
            line.update(progress_line(status))
            shown.print_new(workdir, status, console.print)
    shown.print_new(workdir, read_status(workdir.status), console.print)


def _show_plain(workdir: Workdir, shown: _Shown, ended: threading.Event, terminal: TextIO) -> None:
    def show(line: str) -> None:
        print(line, file=terminal, flush=True)

    spoke = time.monotonic()
    while not ended.wait(POLL_SECONDS):
        status = read_status(workdir.status)
        if shown.print_new(workdir, status, show):
            spoke = time.monotonic()
        elif time.monotonic() - spoke >= SILENT_SECONDS:
            show(progress_line(status))
            spoke = time.monotonic()
    shown.print_new(workdir, read_status(workdir.status), show)


def _evaluation_line(record: dict[str, Any]) -> str:
    key = measure_of(record).key
    of = "" if key == "accuracy" else "R² "
    return (
        f"step {record['step']:>6}  loss {record['loss']:.6f}  "
        f"train {of}{record[f'train_{key}']:.4f}  test {of}{record[f'test_{key}']:.4f}  "
        f"{record['seconds']:8.1f} s"
    )


def progress_line(status: dict[str, Any]) -> str:
    """One line from status.json: step or rows, loss, accuracy, blocks, workers, rate, time left."""
    if status.get("state") != "running":
        return str(status.get("state", "starting"))
    parts = []
    if status.get("steps"):
        parts.append(f"step {status.get('step', 0)}/{status['steps']}")
    if status.get("rows_total"):
        parts.append(f"{status['rows_of']} {status['rows']:,}/{status['rows_total']:,}")
    if "loss" in status:
        parts.append(f"loss {status['loss']:.6f}")
    for key, of in (("accuracy", ""), ("r2", "R² ")):
        if f"test_{key}" in status:
            parts.append(f"test {of}{status[f'test_{key}']:.4f} (step {status['evaluated_step']})")
    parts.append(f"{status.get('blocks', 0)} blocks")
    parts.append(f"{status.get('workers', 0)} workers")
    if status.get("pairs_per_second"):
        parts.append(f"{status['pairs_per_second']:,} pairs/s by {status['engine']}")
    if status.get("seconds_left") is not None:
        parts.append(f"{duration(status['seconds_left'])} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Minutes and seconds as 4:05, or hours and minutes."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{rest:02}"
