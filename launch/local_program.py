"""Runs a Launchpad program on this machine and waits for its end."""

import contextlib
import importlib.util
import os
import signal

from absl import flags

from kipper.common import logs
from kipper.common.errors import Interrupted, KipperError, UserError
from kipper.common.settings import RunSettings
from kipper.launch.coordinator import check_run
from kipper.launch.processes.process import forget_proxies
from kipper.launch.processes.stopping import STOPPING, StopRequest
from kipper.launch.processes.terminal import libraries_write_to, tell_terminal
from kipper.server.experiment import Rows, choose_rows
from kipper.server.records import RunResult
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

# What Launchpad calls the coordinator's node once it runs.
_COORDINATOR = {"local_mp": "coordinator/0", "local_mt": "coordinator"}


class RunFailed(KipperError):
    """The run ended without a result."""


def run_local_program(settings: RunSettings) -> RunResult:
    """A run under Launchpad, as processes or as threads; returns what result.json holds.

    Must be called in the main thread: Launchpad handles signals.

    Raises:
        UserError: refused before anything started.
        Interrupted: by Ctrl-C or SIGTERM.
        RunFailed: the coordinator said why it failed, or died without a word.
    """
    check_launchpad(f"--launch={settings.execution.launch}", ", or give --launch=inprocess")
    logs.quiet_native_libraries()
    rows = choose_rows(settings.compute, check_run(settings))
    workdir = Workdir(settings.execution.workdir)
    workdir.forget_outcome()
    with_evaluator = has_evaluator(settings, rows)
    del rows  # and with it the pixels; each node loads its own
    with open(workdir.logs / "launchpad.log", "a") as log, libraries_write_to(log):
        asked_to_stop = _launch_and_wait(settings, workdir, with_evaluator)
    return outcome(workdir, asked_to_stop)


def check_launchpad(what: str, otherwise: str = "") -> None:
    """Refuses what needs Launchpad where that is not installed.

    Raises:
        UserError: naming `what` needs it, and `otherwise` what to do without.
    """
    if importlib.util.find_spec("launchpad") is None:
        raise UserError(
            f"{what} needs Launchpad, which is not installed; it comes with kipper on Python "
            f"3.10: use that{otherwise}."
        )


def has_evaluator(settings: RunSettings, rows: Rows) -> bool:
    """Whether the program has nodes that look at snapshots, on images held out for it."""
    return (
        len(rows.validation) > 0
        # Reverb and Courier would open ports that no certificate guards.
        and settings.execution.transport == "courier"
    )


def _launch_and_wait(settings: RunSettings, workdir: Workdir, with_evaluator: bool) -> bool:
    """Runs the program to its end; returns whether the user asked it to stop."""
    os.environ["LAUNCHPAD_LOGGING_DIR"] = str(workdir.logs.resolve())  # read at the import below
    forget_proxies()
    import launchpad as lp

    from kipper.launch.program import make_program

    if not flags.FLAGS.is_parsed():  # Launchpad would parse our command line as its own
        flags.FLAGS(["kipper"])
    stop = StopRequest()
    manager = lp.launch(
        make_program(settings, with_evaluator, stop),
        launch_type=settings.execution.launch,
        terminal="output_to_files",
    )
    launchpads_own = signal.getsignal(signal.SIGTERM)
    assert callable(launchpads_own)

    def on_signal(times: int) -> None:
        if times == 1 and ask_coordinator(settings, workdir):
            tell_terminal(STOPPING)
        else:
            launchpads_own(signal.SIGTERM, None)

    # "One of the workers exited with code N": what that meant for the run is in status.json.
    # Caught here, or Launchpad's exit hook would raise it once more.
    with contextlib.suppress(RuntimeError), stop.asked_by_signals(on_signal=on_signal):
        manager.wait([_COORDINATOR[settings.execution.launch]])
    # The coordinator's end is the program's: what is left is asked to go, and killed after
    # --lp_termination_notice_secs.
    launchpads_own(signal.SIGTERM, None)
    manager.wait(raise_error=False)
    return stop.is_asked()


def ask_coordinator(settings: RunSettings, workdir: Workdir) -> bool:
    """Has the coordinator stop after its step; False if it has not begun or has ended.

    Launchpad would stop all at once and kill what is left after ten seconds, which a step may
    well exceed.
    """
    status = read_status(workdir.status)
    if status.state != "running" or status.pid is None:
        return False
    if (
        settings.execution.launch == "local_mp"
    ):  # else it is a thread of this process, and has been asked
        try:
            os.kill(status.pid, signal.SIGTERM)
        except OSError:
            return False
    return True


def outcome(workdir: Workdir, asked_to_stop: bool) -> RunResult:
    """What result.json of a program that is over holds.

    Raises:
        Interrupted: it was asked to stop.
        RunFailed: it ended without a result; says why, if anybody knows.
    """
    status = read_status(workdir.status)
    state, result = status.state, workdir.read_result()
    if state == "finished" and result is not None:
        return result
    if state == "failed":
        raise RunFailed(status.message)
    if workdir.failure.exists():
        raise RunFailed(
            f"{workdir.failure.read_text()} Its log is in {workdir.logs}; the same command resumes "
            "the run."
        )
    if state == "interrupted" or asked_to_stop:
        raise Interrupted()
    raise RunFailed(
        f"A process of the run died; its log is in {workdir.logs}. The same command resumes from "
        "the newest checkpoint."
    )
