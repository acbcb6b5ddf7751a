"""The state of a run, from its files and its lock, for `kipper status` and `kipper list`."""

import dataclasses
import datetime
import pathlib
import socket
import urllib.parse
from typing import Any

from kipper.common.durations import duration
from kipper.common.errors import UserError
from kipper.common.numbers import significant
from kipper.launch.cluster import slurm_queue
from kipper.launch.cluster.meeting_point import read_launch
from kipper.launch.link.open_network import is_loopback
from kipper.server.confirmations import about_liars
from kipper.server.report.run_files import RunFiles, read_run
from kipper.server.status import was_written_lately


@dataclasses.dataclass(frozen=True)
class RunState:
    """A run as it is now.

    Attributes:
        run: its files.
        state: not begun, running, finished, interrupted, failed; or died: its status says running,
            but no process holds its folder; or unknown: its status cannot be read; or waiting: its
            launcher will go on with it.
        changed: local time of its last status; None if it never wrote one.
        waits_for: if it is waiting, what it waits for.
        slurm_job: number of the coordinator's job, if Slurm did not say whether it goes on with the
            run.
        ended_workers: number of Slurm's job of workers, if it has ended before the run.
    """

    run: RunFiles
    state: str
    changed: datetime.datetime | None
    waits_for: str = ""
    slurm_job: str = ""
    ended_workers: str = ""

    @property
    def progress(self) -> str:
        """How far the run is, in the unit of its algorithm."""
        return self.run.algorithm.progress(self.run.status, self.run.step or 0)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        run, algorithm = self.run, self.run.algorithm
        scores = {"test": run.test, "natural": run.natural}
        return {
            "run": str(run.workdir.path),
            "state": self.state,
            "waits_for": self.waits_for or None,
            "changed": None if self.changed is None else self.changed.isoformat(timespec="seconds"),
            "command": algorithm.command,
            "dataset": algorithm.settings.dataset,
            "architecture": run.architecture,
            "support_size": algorithm.settings.support_size,
            "step": run.step,
            "steps": algorithm.steps,
            **{k: v for part, each in scores.items() if each for k, v in each.record(part).items()},
            "status": run.status.record(),
        }

    @property
    def score(self) -> str:
        """The newest test score, and that of natural images."""
        test, natural = self.run.test, self.run.natural
        if test is None:
            return ""
        words = test.words
        if natural is None:
            return words
        return f"{words}; of natural images {natural.amount}"


def state_of(folder: str | pathlib.Path) -> RunState:
    """Reads the state of a run without disturbing it.

    Raises:
        UserError: there is no run in the folder.
    """
    launch = read_launch(folder)
    in_queue = unknown = no_workers = ""
    if launch is not None and not launch.is_over:
        job, workers = launch.coordinator_job, launch.workers_job
        living = slurm_queue.living(job, workers)
        if living is None:
            unknown = job
        elif job in living:
            in_queue = f"Slurm's job {job}, which is {living[job]}"
            no_workers = workers if workers not in living else ""
    try:
        run = read_run(folder)
    except UserError as error:
        if in_queue:
            raise UserError(
                f"The run in {folder} has not begun; it waits for {in_queue}."
            ) from error
        raise
    has_status = run.workdir.status.exists()
    said = run.status.state or ("unknown" if has_status else "not begun")
    try:
        changed = datetime.datetime.fromtimestamp(run.workdir.status.stat().st_mtime)
    except OSError:
        changed = None
    if said in ("running", "starting") and changed is not None and not _lives(run):
        said = "died"
    if said in ("running", "finished"):
        return RunState(run, said, changed, ended_workers=no_workers)
    if not in_queue and run.workdir.is_launched():
        in_queue = "the command that launched it"
    if in_queue:
        return RunState(run, "waiting", changed, waits_for=in_queue)
    return RunState(run, said, changed, slurm_job=unknown)


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
        ("loss", significant(status.loss) if status.loss is not None else ""),
        ("test", _scored(state)),
        ("workers", _workers(state)),
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
        lines += dashboard_lines(status.dashboard, status.host)
    if state.state in ("interrupted", "died", "failed"):
        after = "mend that, then " if state.state == "failed" else ""
        unless = f", unless squeue lists job {state.slurm_job}" if state.slurm_job else ""
        lines.append(("to resume", f"{after}give the same command again{unless}"))
    return [(name, value) for name, value in lines if value]


def _workers(state: RunState) -> str:
    workers, job = state.run.status.workers, state.ended_workers
    ended = f"Slurm's job {job} has ended; slurm/worker-{job}_*.log in the run say why"
    said = [str(workers)] if workers is not None else []
    return "; ".join([*said, *([ended] if job else [])])


def dashboard_lines(url: str, host: str | None) -> list[tuple[str, str]]:
    """The page's address, and the ssh tunnel to it if only another host can reach it."""
    address = urllib.parse.urlsplit(url)
    if host in (None, socket.gethostname()) or not is_loopback(address.hostname or ""):
        return [("dashboard", url)]
    port = address.port
    tunnel = f"ssh -L {port}:{address.hostname}:{port} {host}"
    return [("dashboard", f"{url} on {host}"), ("", f"from here: {tunnel}")]


def _numerics(run: RunFiles) -> list[tuple[str, str]]:
    """A line for each identity that computed, after a warning if there were several."""
    lines = list(run.numerics.lines)
    if run.numerics.is_mixed:
        lines.insert(0, "mixed: the bits of the result depend on which worker computed what")
    return [("" if number else "numerics", line) for number, line in enumerate(lines)]


def _state(state: RunState) -> str:
    said = state.state
    if state.state == "failed":
        said = f"failed: {(state.run.status.message or '').removesuffix('.')}"
    if state.state == "died":
        said = "died: its process ended without a message"
    if state.state == "waiting":
        said = f"waiting for {state.waits_for}"
    if state.changed is None:
        return said
    return f"{said}; last status at {state.changed:%Y-%m-%d %H:%M:%S}"


def _scored(state: RunState) -> str:
    if not state.score:
        return ""
    if state.run.result is not None:
        return state.score
    return f"{state.score} (step {state.run.step:,})"
