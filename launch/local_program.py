"""Runs a Launchpad program on this machine and waits for its end."""

import contextlib
import importlib.util
import os
from typing import Any

from absl import flags

from kipper.common.errors import KipperError, UserError
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.coordinator import check_run
from kipper.launch.process import forget_proxies
from kipper.server.experiment import choose_rows
from kipper.server.session import Interrupted, read_result
from kipper.server.status import read_status
from kipper.server.workdir import Workdir


class RunFailed(KipperError):
    """The run ended without a result."""


def run_local_program(settings: RunSettings) -> dict[str, Any]:
    """A run under Launchpad, as processes or as threads; returns what result.json holds.

    Must be called in the main thread: Launchpad handles signals.

    Raises:
        UserError: refused before anything started.
        Interrupted: by Ctrl-C or SIGTERM.
        RunFailed: the coordinator said why it failed, or died without a word.
    """
    if importlib.util.find_spec("launchpad") is None:
        raise UserError(
            f"--launch={settings.launch} needs Launchpad, which is not installed; it comes with "
            "kipper on Python 3.10: use that, or give --launch=inprocess."
        )
    rows = choose_rows(settings, check_run(settings))
    workdir = Workdir(settings.workdir)
    workdir.status.unlink(missing_ok=True)
    with_evaluator = isinstance(settings, DistillSettings) and len(rows.validation) > 0
    del rows  # and with it the pixels; each node loads its own
    _launch_and_wait(settings, workdir, with_evaluator)
    return _outcome(workdir)


def _launch_and_wait(settings: RunSettings, workdir: Workdir, with_evaluator: bool) -> None:
    os.environ["LAUNCHPAD_LOGGING_DIR"] = str(workdir.logs.resolve())  # read at the import below
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # no start-up chatter on the user's terminal
    forget_proxies()
    import launchpad as lp

    from kipper.launch.program import make_program

    if not flags.FLAGS.is_parsed():  # Launchpad would parse our command line as its own
        flags.FLAGS(["kipper"])
    with open(workdir.logs / "launchpad.log", "a") as log, contextlib.redirect_stdout(log):
        manager = lp.launch(
            make_program(settings, with_evaluator),
            launch_type=settings.launch,
            terminal="output_to_files",
        )
        # "One of the workers exited with code N": what that meant for the run is in status.json.
        # Caught here, or Launchpad's exit hook would raise it once more.
        with contextlib.suppress(RuntimeError):
            manager.wait()
        manager.wait(raise_error=False)  # for the others, which are being stopped now


def _outcome(workdir: Workdir) -> dict[str, Any]:
    status = read_status(workdir.status)
    state, result = status.get("state"), read_result(workdir)
    if state == "finished" and result is not None:
        return result
    if state == "interrupted":
        raise Interrupted("The run was interrupted; the same command resumes it.")
    if state == "failed":
        raise RunFailed(status["message"])
    raise RunFailed(
        f"A process of the run died; its log is in {workdir.logs}. The same command resumes from "
        "the newest checkpoint."
    )
