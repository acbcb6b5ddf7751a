"""The state of a run, from its files and its lock, for `kipper status` and `kipper list`."""

import dataclasses
import datetime
import pathlib
import socket

from kipper.common.durations import duration
from kipper.server.confirmations import about_liars
from kipper.server.report.run_files import RunFiles, read_run
from kipper.server.status import was_written_lately


@dataclasses.dataclass(frozen=True)
class RunState:
    """A run as it is now.

    Attributes:
        run: its files.
        state: not begun, running, finished, interrupted, failed; or died: its status says running,
            but no process holds its folder; or unknown: its status cannot be read.
        changed: local time of its last status; None if it never wrote one.
    """

    run: RunFiles
    state: str
    changed: datetime.datetime | None

    @property
    def progress(self) -> str:
        """How far the run is, in the unit of its algorithm."""
        return self.run.algorithm.progress(self.run.status, self.run.step or 0)

    @property
    def score(self) -> str:
        """The newest test score, and that of natural images."""
        test, natural = self.run.test, self.run.natural
        if test is None:
            return ""
        words = test.measure.text(test.shown)
        if natural is None:
            return words
        return f"{words}; of natural images {natural.measure.digits(natural.shown)}"


def state_of(folder: str | pathlib.Path) -> RunState:
    """Reads the state of a run without disturbing it.

    Raises:
        UserError: there is no run in the folder.
    """
    run = read_run(folder)
    has_status = run.workdir.status.exists()
    said = run.status.state or ("unknown" if has_status else "not begun")
    try:
        changed = datetime.datetime.fromtimestamp(run.workdir.status.stat().st_mtime)
    except OSError:
        return RunState(run, said, None)
    if said in ("running", "starting") and not _lives(run):
        said = "died"
    return RunState(run, said, changed)


def _lives(run: RunFiles) -> bool:
    """Whether a run's coordinator lives: judged by its lock on this host, else by its silence."""
    if run.status.host in (None, socket.gethostname()):
        return run.workdir.is_locked()
    return was_written_lately(run.workdir.status)


def lines_about(state: RunState) -> list[tuple[str, str]]:
    """The lines of `kipper status`, as (name, value)."""
    run, status = state.run, state.run.status
    lines = [
        ("run", str(run.workdir.path)),
        ("what", f"{run.title}, {run.algorithm.settings.support_size} images"),
        ("state", _state(state)),
        ("progress", state.progress),
        ("loss", f"{status.loss:.6f}" if status.loss is not None else ""),
        ("test", _scored(state)),
        ("workers", str(status.workers) if status.workers is not None else ""),
        ("blocks", f"{status.blocks:,}" if status.blocks is not None else ""),
    ]
    if status.account.pairs_per_second:
        rate = f"{status.account.pairs_per_second:,} kernel pairs a second"
        lines.append(("speed", f"{rate} by {status.account.engine}"))
    if status.liars:
        lines.append(("liars", about_liars(status.liars, run.algorithm.unit)))
    if state.state == "running" and status.set_aside:
        said = (f"{name}: {reason}" for name, reason in status.set_aside.items())
        lines.append(("set aside", "; ".join(said)))
    lines += _numerics(run)
    if state.state == "running" and status.waits_for is not None:
        lines.append(("waits for", f"a worker that computes by {status.waits_for}"))
    if state.state == "running" and status.seconds_left is not None:
        lines.append(("time left", duration(status.seconds_left)))
    if state.state == "running" and status.dashboard:
        lines.append(("dashboard", status.dashboard))
    if state.state in ("interrupted", "died", "failed"):
        lines.append(("to resume", "give the same command again"))
    return [(name, value) for name, value in lines if value]


def _numerics(run: RunFiles) -> list[tuple[str, str]]:
    """A line for each identity that computed, after a warning if there were several."""
    lines = list(run.numerics.lines)
    if run.numerics.is_mixed:
        lines.insert(0, "mixed: the bits of the result depend on who computed what")
    return [("" if number else "numerics", line) for number, line in enumerate(lines)]


def _state(state: RunState) -> str:
    said = state.state
    if state.state == "failed":
        said = f"failed: {state.run.status.message or ''}"
    if state.state == "died":
        said = "died: its process ended without a word"
    if state.changed is None:
        return said
    return f"{said}; last status at {state.changed:%Y-%m-%d %H:%M:%S}"


def _scored(state: RunState) -> str:
    if not state.score:
        return ""
    if state.run.result is not None:
        return state.score
    return f"{state.score} (step {state.run.step:,})"
