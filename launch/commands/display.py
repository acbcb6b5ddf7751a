"""The progress of a run on a terminal, and tables.

Progress is read from the run's files alone, so that one display serves every way to launch a run.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from kipper.common.durations import duration
from kipper.common.numbers import field_text, significant
from kipper.common.printable import printable
from kipper.common.strict_json import json_text
from kipper.server.records import Evaluation
from kipper.server.status import Status, read_status
from kipper.server.workdir import Workdir

POLL_SECONDS = 0.25
# Between lines in a log file, where they accumulate.
SILENT_SECONDS = 60.0


@contextlib.contextmanager
def showing_progress(workdir: Workdir, terminal: TextIO | None = None) -> Iterator[None]:
    """Shows progress within the context: one live line on a terminal, plain lines elsewhere.

    On `terminal`, by default stdout.

    Plain lines are evaluations, and the progress after a minute without one.
    """
    before = _Shown(len(workdir.evaluations()), read_status(workdir.status))
    ended = threading.Event()
    terminal = terminal or sys.stdout  # kept: Launchpad's output is redirected to a file later
    show = _show_live if terminal.isatty() else _show_plain
    thread = threading.Thread(target=show, args=(workdir, before, ended, terminal), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Shown:
    """Keeps track of the evaluations and addresses that have been printed."""

    def __init__(self, num_records: int, status: Status):
        self._records = num_records
        self._address = _address(status)

    def print_new(self, workdir: Workdir, status: Status, show: Callable[[str], None]) -> bool:
        """Prints the page's address once, and new evaluations; returns whether there was any."""
        anything = False
        address = _address(status)
        if address is not None and address != self._address:
            self._address = address
            show(printable(f"dashboard {address[1]}"))
            anything = True
        evaluations = workdir.evaluations()
        for evaluation in evaluations[self._records :]:
            show(_evaluation_line(evaluation))
            anything = True
        self._records = len(evaluations)
        return anything


def _address(status: Status) -> tuple[int | None, str] | None:
    """The process that serves a run's live page, and the URL."""
    return (status.pid, status.dashboard) if status.dashboard else None


def _show_live(workdir: Workdir, shown: _Shown, ended: threading.Event, terminal: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=terminal, highlight=False, markup=False, emoji=False)
    with console.status("starting") as line:
        while not ended.wait(POLL_SECONDS):
            status = read_status(workdir.status)
            line.update(Text(progress_line(status)))
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


@contextlib.contextmanager
def working_on(what: str) -> Iterator[None]:
    """Announces slow work on stderr: a line with a clock on a terminal, else a sentence."""
    if not sys.stderr.isatty():
        print(f"kipper: {what} …", file=sys.stderr, flush=True)
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(what)
        yield


def _evaluation_line(evaluation: Evaluation) -> str:
    scores = (("train", evaluation.train), ("test", evaluation.test))
    words = "  ".join(f"{part} {score.brief:>7}" for part, score in scores if score is not None)
    return (
        f"step {evaluation.step:>6}  loss {significant(evaluation.loss):<10} {words}  "
        f"{evaluation.seconds:8.1f} s"
    )


def progress_line(status: Status) -> str:
    """One line: step or rows, loss, score, blocks, workers, rate, time left."""
    if status.state != "running":
        return printable(status.state or "starting")
    account, parts = status.account, how_far(status)
    parts.append(f"{status.blocks or 0} blocks")
    parts.append(f"{status.workers or 0} workers")
    if account.pairs_per_second:
        parts.append(f"{account.pairs_per_second:,} pairs/s by {account.engine}")
    return printable("  ".join([*parts, *time_left(status)]))


def how_far(status: Status) -> list[str]:
    """Parts of a line: step or rows, the loss, the newest score."""
    parts = []
    if status.steps:
        parts.append(f"step {status.step or 0:,}/{status.steps:,}")
    if status.rows_total:
        parts.append(f"{status.rows_of} {status.rows or 0:,}/{status.rows_total:,}")
    if status.loss is not None:
        parts.append(f"loss {significant(status.loss)}")
    if status.test is not None:
        parts.append(f"test {status.test.brief} (step {status.evaluated_step})")
    return parts


def time_left(status: Status) -> list[str]:
    """A part of a line, if a running run knows how long it will take."""
    if status.seconds_left is None or status.state != "running":
        return []
    return [f"{duration(status.seconds_left)} left"]


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int | None = None
) -> None:
    """Prints rows under their heads, as wide as they are; lines are never cut.

    Args:
        heads: one for each column.
        rows: one cell for each column.
        text_columns: the number of first columns that are aligned to the left; the others, which
            hold numbers, are aligned to the right. None: all hold text.
    """
    # Imported here: other commands need not wait for it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, head in enumerate(heads):
        is_text = text_columns is None or column < text_columns
        table.add_column(head, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=10_000)
    with console.capture() as text:
        console.print(table)
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


def print_record(record: Mapping[str, Any], as_json: bool) -> None:
    """Prints a result: as a table on a terminal, and elsewhere, or if asked, as one JSON object."""
    if as_json or not sys.stdout.isatty():
        print(json_text(record))
    else:
        print_facts(record)


def print_facts(record: Mapping[str, Any]) -> None:
    """Prints the fields of a record that have values, one a line; objects in a list as a table."""
    facts: list[tuple[str, str]] = []
    tables = []
    for name, value in record.items():
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            tables.append(value)
        elif isinstance(value, dict):
            facts += [(f"{name} {inner}", field_text(inner, each)) for inner, each in value.items()]
        elif value is not None:
            facts.append((name, field_text(name, value)))
    width = max((len(name) for name, _ in facts), default=0)
    for name, shown in facts:
        print(printable(f"{name.replace('_', ' '):{width}}  {shown}"))
    for rows in tables:
        names = [*dict.fromkeys(name for row in rows for name in row)]
        texts = [name for name in names if any(isinstance(row.get(name), str) for row in rows)]
        names.sort(key=lambda name: name not in texts)  # numbers are aligned to the right
        heads = [name.replace("_", " ") for name in names]
        print()
        cells = ([field_text(name, row.get(name)) for name in names] for row in rows)
        print_table(heads, cells, len(texts))
