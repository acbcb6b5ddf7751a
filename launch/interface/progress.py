"""What a run from Python shows: a bar on a terminal, HTML in a notebook, lines elsewhere."""

import contextlib
import dataclasses
import html
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from kipper.common.errors import UserError
from kipper.launch.commands.display import POLL_SECONDS, how_far, showing_progress, time_left
from kipper.launch.interface.notebook import in_notebook
from kipper.launch.interface.pictures import inline_picture
from kipper.server.distilled_set import load_recipe
from kipper.server.measures import ACCURACY
from kipper.server.snapshots import SupportSnapshot
from kipper.server.status import Status
from kipper.server.workdir import Workdir

# Between updates of a notebook, which keeps no earlier ones.
_NOTEBOOK_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        state: starting, running, finished, interrupted or failed.
        step: gradient steps made, of `steps`; 0 for Label Solve.
        share: the share of the work that is done, 0 to 1.
        loss: the loss of the newest step; None before.
        test_accuracy, test_r2: those of the newest evaluation; None before, or if it is the other.
        seconds_left: an estimate; None while there is none.
        page: address of the live page; None if there is none.
        workdir: the run's folder.
    """

    state: str
    step: int
    steps: int
    share: float
    loss: float | None
    test_accuracy: float | None
    test_r2: float | None
    seconds_left: float | None
    page: str | None
    workdir: pathlib.Path
    _status: Status = dataclasses.field(repr=False)
    _last: SupportSnapshot | None = dataclasses.field(repr=False)
    _is_temporary: bool = dataclasses.field(repr=False)

    @classmethod
    def of(
        cls, status: Status, last: SupportSnapshot | None, workdir: Workdir, is_temporary: bool
    ) -> "Progress":
        """The progress that a run's status says; `last` is the set that was evaluated last."""
        test, step, steps = status.test, status.step or 0, status.steps or 0
        done, total = (step, steps) if steps else (status.rows or 0, status.rows_total or 0)
        share = 1.0 if status.state == "finished" else done / max(1, total)
        value = test.value if test is not None else None
        is_accuracy = test is not None and test.measure is ACCURACY
        return cls(
            state=status.state or "starting",
            step=step,
            steps=steps,
            share=share,
            loss=status.loss,
            test_accuracy=value if is_accuracy else None,
            test_r2=None if is_accuracy else value,
            seconds_left=status.seconds_left,
            page=status.dashboard,
            workdir=workdir.path,
            _status=status,
            _last=last,
            _is_temporary=is_temporary,
        )

    @property
    def line(self) -> str:
        """The progress in one line."""
        return "  ".join([self.state, *how_far(self._status), *time_left(self._status)])

    def __str__(self) -> str:
        return f"{self.line}  {self._place}"

    @property
    def _place(self) -> str:
        return f"{self.workdir}{' (temporary)' if self._is_temporary else ''}"

    def to_html(self) -> str:
        """A bar, the line, the newest images, the folder and the address of the live page."""
        page = html.escape(self.page or "")
        link = f' · <a href="{page}" target="_blank">live page</a>' if page else ""
        bar = f'<progress value="{self.share:.4f}" max="1"></progress>'
        line = html.escape(self.line.replace("  ", " · "))
        place = f"<small>{html.escape(self._place)}{link}</small>"
        return f"<div><div>{bar} {line}</div>{self._picture()}<div>{place}</div></div>"

    def _picture(self) -> str:
        recipe_path = Workdir(self.workdir).preprocessing
        if self._last is None or not recipe_path.exists():
            return ""
        with contextlib.suppress(UserError):
            recipe = load_recipe(recipe_path)
            images, labels, _ = self._last.support
            classes = labels.argmax(axis=1) if recipe.class_names else None
            return inline_picture(images, classes, recipe, f"step {self._last.step:,}")
        return ""


class Shown(Protocol):
    """What has been shown of a run."""

    @property
    def workdir(self) -> pathlib.Path: ...

    @property
    def progress(self) -> Progress: ...


def say(sentence: str) -> None:
    """Tells the user something, on stderr."""
    print(f"kipper: {sentence}", file=sys.stderr, flush=True)


def said_lines(verbose: bool) -> Callable[[str], None]:
    """A function that shows lines of progress: the newest one in a notebook, else on stderr."""
    if not verbose:
        return lambda _line: None
    if not in_notebook():
        return lambda line: print(line, file=sys.stderr, flush=True)
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)
    return lambda line: handle.update(HTML(f"<pre>{html.escape(line)}</pre>"))


def opened(run: Shown) -> AbstractContextManager[None]:
    """A context within which the run's progress is shown where the caller's output goes."""
    if in_notebook():
        from IPython.display import display

        handle = display(run, display_id=True)
        return _updating(lambda: handle.update(run), _NOTEBOOK_SECONDS)
    if sys.stderr.isatty():
        return _bar(run)
    return showing_progress(Workdir(run.workdir), sys.stderr)


@contextlib.contextmanager
def _bar(run: Shown) -> Iterator[None]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    bars = BarColumn(bar_width=20, complete_style="green", finished_style="green")
    columns = bars, TextColumn("{task.description}", markup=False)
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)
        pages: set[str] = set()

        def update() -> None:
            progress = run.progress
            if progress.page and progress.page not in pages:
                pages.add(progress.page)
                console.print(f"live page {progress.page}")
            bar.update(task, completed=progress.share, description=progress.line)

        with _updating(update, POLL_SECONDS):
            yield


@contextlib.contextmanager
def _updating(update: Callable[[], object], seconds: float) -> Iterator[None]:
    """Calls `update` every so many seconds while the block runs, and once at its end."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            update()
        update()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
