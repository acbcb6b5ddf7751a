"""Runs a Launchpad program on this machine and waits for its end."""

import contextlib
import os
import shutil
import signal

from absl import flags

from kipper.common import logs
from kipper.common.errors import (
    OF_THE_MACHINE,
    Interrupted,
    KipperError,
    TemporaryError,
    UserError,
)
from kipper.common.settings import RunSettings
from kipper.common.this_python import check_launchpad
from kipper.launch.coordinator import claimed_run
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.process import forget_proxies
from kipper.launch.processes.stopping import STOPPING, StopRequest
from kipper.launch.processes.streams import LossyText
from kipper.launch.processes.terminal import libraries_write_to, tell_terminal
from kipper.server.experiment import Rows, choose_rows
from kipper.server.records import RunResult
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

# With less, a run can no longer write even its status.
_LEAST_FREE_BYTES = 16 * 1024

# Launchpad's names of the coordinator's running node.
_COORDINATOR = {"local_mp": "coordinator/0", "local_mt": "coordinator"}


class RunFailed(KipperError):
    """The run ended without a result."""


class RunCutShort(RunFailed, TemporaryError):
    """The run ended without a result, for a reason that may pass; the same command resumes it."""


def failure_of(status: int) -> type[KipperError]:
    """The error of a coordinator that ended with this exit status, neither done nor interrupted."""
    if status == ExitCode.UNUSABLE:
        return UserError
    return RunFailed if status == ExitCode.FAILED else RunCutShort


def run_local_program(settings: RunSettings) -> RunResult:
    """Runs under Launchpad, as processes or as threads.

    Call this in the main thread: Launchpad handles signals.

    Raises:
        UserError: the settings or the data cannot be used.
        Interrupted: by Ctrl-C or SIGTERM.
        RunFailed: the coordinator failed or died.
    """
    check_launchpad(
        f"--launch={settings.execution.launch}",
        "give --launch=ray, whose workers are processes too, or give --launch=inprocess",
    )
    logs.quiet_native_libraries()
    workdir = Workdir(settings.execution.workdir)
    with claimed_run(settings) as dataset:
        with_evaluator = has_evaluator(settings, choose_rows(settings.compute, dataset))
        del dataset  # frees the pixels; each node loads its own
        workdir.forget_outcome()
        path = workdir.logs / "launchpad.log"
        with (
            LossyText.to(path, "ab", OF_THE_MACHINE, "utf-8") as log,
            libraries_write_to(log),
        ):
            asked_to_stop = _launch_and_wait(settings, workdir, with_evaluator)
        return outcome(workdir, asked_to_stop)


def has_evaluator(settings: RunSettings, rows: Rows) -> bool:
    """Whether the program has nodes that score snapshots on held-out images."""
    return (
        len(rows.validation) > 0
        # Certificates do not protect the ports of Reverb and Courier.
        and settings.execution.transport == "courier"
    )


def _launch_and_wait(settings: RunSettings, workdir: Workdir, with_evaluator: bool) -> bool:
    """Runs the program to its end; returns whether the user asked it to stop."""
    os.environ["LAUNCHPAD_LOGGING_DIR"] = str(workdir.logs.resolve())  # read at the import below
    forget_proxies()
    import launchpad as lp

    from kipper.launch.program import make_program

    if not flags.FLAGS.is_parsed():  # or Launchpad would parse our command line
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

    # Launchpad raises "One of the workers exited with code N"; status.json has the outcome of the
    # run. Launchpad's exit hook would raise it again if it were not caught here.
    with contextlib.suppress(RuntimeError), stop.asked_by_signals(on_signal=on_signal):
        manager.wait([_COORDINATOR[settings.execution.launch]])
    # The coordinator's end is the end of the program: Launchpad asks the other nodes to end, and
    # kills them after --lp_termination_notice_secs.
    launchpads_own(signal.SIGTERM, None)
    manager.wait(raise_error=False)
    return stop.is_asked()


def ask_coordinator(settings: RunSettings, workdir: Workdir) -> bool:
    """Asks the coordinator to stop after its step; returns False if it is not running.

    Launchpad would stop all nodes at once, and kill them after ten seconds, within a long step.
    This asks the process that holds the workdir's lock, because a process id alone may mean another
    process by now.
    """
    status = read_status(workdir.status)
    if status.state != "running":
        return False
    if settings.execution.launch != "local_mp":
        return True  # a thread of this process, which has been asked already
    coordinator = workdir.coordinator()
    return coordinator is not None and coordinator.send(signal.SIGTERM)


def outcome(workdir: Workdir, asked_to_stop: bool) -> RunResult:
    """The result of a program that has ended.

    Raises:
        Interrupted: the run was asked to stop.
        RunFailed: the run ended without a result; gives the reason if it is known. A `RunCutShort`
            if the reason may pass.
    """
    status = read_status(workdir.status)
    state, result = status.state, workdir.read_result()
    if state == "finished" and result is not None:
        return result
    if state == "failed":
        raise (RunCutShort if status.may_recover else RunFailed)(status.message)
    if workdir.failure.exists():
        raise RunFailed(
            f"{workdir.failure.read_text()} Its log is in {workdir.logs}; the same command resumes "
            "the run."
        )
    if state == "interrupted" or asked_to_stop:
        raise Interrupted()
    if shutil.disk_usage(workdir.path).free < _LEAST_FREE_BYTES:
        raise RunCutShort(
            f"The disk that holds {workdir.path} is full; once that is mended, the same command "
            "resumes the run."
        )
    raise RunCutShort(
        f"A process of the run died; its log is in {workdir.logs}. The same command resumes from "
        "the newest checkpoint."
    )
