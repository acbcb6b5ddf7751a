"""What a run is doing, as far as its files and its lock tell; for `kipper status` and `list`."""

import dataclasses
import datetime
import pathlib
import socket
from typing import Any

from kipper.launch.commands.display import duration
from kipper.server.report.run_files import RunFiles, read_run

# A coordinator on another host that wrote nothing for so long is gone; one that lives writes about
# once a second.
_SILENCE = datetime.timedelta(minutes=2)


@dataclasses.dataclass(frozen=True)
class RunState:
    """A run as it is now.

    Attributes:
        run: its files.
        state: running, finished, interrupted, failed; died: it says that it runs and nobody holds
            its folder; not begun.
        changed: when it last wrote of itself, local time; None if it never did.
    """

    run: RunFiles
    state: str
    changed: datetime.datetime | None

    @property
    def status(self) -> dict[str, Any]:
        """What status.json says."""
        return self.run.status

    @property
    def progress(self) -> str:
        """How far it has come, in the unit of its algorithm."""
        status = self.status
        if status.get("rows_total") and self.state != "finished":
            return f"{status['rows']:,} of {status['rows_total']:,} {status['rows_of']}"
        if not self.run.learns_images:
            return ""
        step = self.run.latest.get("steps", self.run.latest.get("step", 0))
        return f"step {max(step, status.get('step', 0)):,} of {self.run.settings['steps']:,}"

    @property
    def score(self) -> str:
        """The newest score on test images, and that of natural ones."""
        measure = self.run.measure
        test = measure.of(self.run.latest, "test")
        if test is None:
            return ""
        natural = self.run.natural_score
        if natural is None:
            return measure.text(test)
        return f"{measure.text(test)}; of natural images {measure.digits(natural)}"


def state_of(folder: str | pathlib.Path) -> RunState:
    """Looks at a run without disturbing it.

    Raises:
        UserError: there is no run in the folder.
    """
    run = read_run(folder)
    said = str(run.status.get("state", "not begun"))
    try:
        changed = datetime.datetime.fromtimestamp(run.workdir.status.stat().st_mtime)
    except OSError:
        return RunState(run, said, None)
    if said in ("running", "starting") and not _lives(run, changed):
        said = "died"
    return RunState(run, said, changed)


def _lives(run: RunFiles, changed: datetime.datetime) -> bool:
    """Whether a run's coordinator is there: on this machine its lock tells, elsewhere its words."""
    if run.status.get("host", socket.gethostname()) == socket.gethostname():
        return run.workdir.is_locked()
    return datetime.datetime.now() - changed < _SILENCE


def lines_about(state: RunState) -> list[tuple[str, str]]:
    """What to tell of a run, as (name, value)."""
    run, status = state.run, state.status
    settings = run.settings
    about = f"{run.algorithm} of {run.dataset} with {run.architecture}"
    lines = [
        ("run", str(run.workdir.path)),
        ("what", f"{about}, {settings['support_size']} images"),
        ("state", _state(state)),
        ("progress", state.progress),
        ("loss", f"{status['loss']:.6f}" if "loss" in status else ""),
        ("test", _scored(state)),
        ("workers", str(status["workers"]) if "workers" in status else ""),
        ("blocks", f"{status['blocks']:,}" if "blocks" in status else ""),
    ]
    if status.get("pairs_per_second"):
        rate = f"{status['pairs_per_second']:,} kernel pairs a second by {status['engine']}"
        lines.append(("speed", rate))
    if state.state == "running" and status.get("seconds_left") is not None:
        lines.append(("time left", duration(status["seconds_left"])))
    if state.state == "running" and status.get("dashboard"):
        lines.append(("dashboard", status["dashboard"]))
    if state.state in ("interrupted", "died", "failed"):
        lines.append(("to go on", "give the same command again"))
    return [(name, value) for name, value in lines if value]


def _state(state: RunState) -> str:
    said = state.state
    if state.state == "failed":
        said = f"failed: {state.status.get('message', '')}"
    if state.state == "died":
        said = "died: its process is gone and did not say why"
    if state.changed is None:
        return said
    return f"{said}; last word at {state.changed:%Y-%m-%d %H:%M:%S}"


def _scored(state: RunState) -> str:
    if not state.score:
        return ""
    step = state.run.latest.get("step")
    return state.score if step is None else f"{state.score} (step {step:,})"
