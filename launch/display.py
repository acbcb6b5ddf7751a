"""How a run goes, for whoever looks at the terminal; read from the run's files alone.

So one display serves a run in this process, in threads, and in processes.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from kipper.server.figures.measures import measure_of
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

_POLL_SECONDS = 0.25


@contextlib.contextmanager
def showing_progress(workdir: Workdir) -> Iterator[None]:
    """Shows progress until the block ends: one live line on a terminal, plain lines otherwise."""
    known = len(workdir.read_records(workdir.metrics))
    ended = threading.Event()
    terminal = sys.stdout  # as it is now: Launchpad's own talk is redirected to a file later
    show = _show_live if terminal.isatty() else _show_plain
    thread = threading.Thread(target=show, args=(workdir, known, ended, terminal), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show_live(workdir: Workdir, known: int, ended: threading.Event, terminal: TextIO) -> None:
    from rich.console import Console

    console = Console(file=terminal, highlight=False)
    with console.status("starting") as line:
        while not ended.wait(_POLL_SECONDS):
            line.update(progress_line(read_status(workdir.status)))
            known = _print_new_records(workdir, known, console.print)
    _print_new_records(workdir, known, console.print)


def _show_plain(workdir: Workdir, known: int, ended: threading.Event, terminal: TextIO) -> None:
    def show(line: str) -> None:
        print(line, file=terminal, flush=True)

    while not ended.wait(_POLL_SECONDS):
        known = _print_new_records(workdir, known, show)
    _print_new_records(workdir, known, show)


def _print_new_records(workdir: Workdir, known: int, show: Any) -> int:
    """Prints evaluations since the first `known`; returns how many there are now."""
    records = workdir.read_records(workdir.metrics)
    for record in records[known:]:
        key = measure_of(record).key
        of = "" if key == "accuracy" else "R² "
        show(
            f"step {record['step']:>6}  loss {record['loss']:.6f}  "
            f"train {of}{record[f'train_{key}']:.4f}  test {of}{record[f'test_{key}']:.4f}  "
            f"{record['seconds']:8.1f} s"
        )
    return len(records)


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
