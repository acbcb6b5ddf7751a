"""A run in processes of its own: the `kipper` command, started from Python.

Launchpad needs a main thread, and notebooks have other uses for theirs.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable

from kipper.common.datasets import keep
from kipper.common.datasets.memory import PREFIX
from kipper.common.errors import Interrupted
from kipper.common.settings import RunSettings
from kipper.launch.local_program import failure_of
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.process import SUPERVISOR_VARIABLE
from kipper.launch.processes.stopping import StopRequest
from kipper.server.algorithms import algorithm_of

_POLL_SECONDS = 0.1


def run_by_command(settings: RunSettings, stop: StopRequest, on_poll: Callable[[], object]) -> None:
    """Runs `settings` by the command line, and waits; `on_poll` is called ten times a second.

    Raises:
        KipperError: what the command says went wrong.
        Interrupted: the run was asked to stop.
    """
    settings.check()
    with tempfile.TemporaryDirectory(prefix="kipper-") as folder:
        if settings.compute.dataset.startswith(PREFIX):
            keep(settings.compute.dataset, folder)
            settings = settings.replace(data_dir=folder)
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "kipper", *_words(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, SUPERVISOR_VARIABLE: str(os.getpid())},
                start_new_session=True,  # a terminal's Ctrl-C is for this process alone
            )
            _wait(process, stop, on_poll)
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
    if process.returncode == ExitCode.DONE:
        return
    sentences = [line.removeprefix("kipper: ") for line in lines if line.startswith("kipper: ")]
    if process.returncode == ExitCode.INTERRUPTED:
        raise Interrupted(*sentences[-1:])
    sentence = sentences[-1] if sentences else f"The run's process ended with {process.returncode}."
    raise failure_of(process.returncode)(sentence)


def _words(settings: RunSettings) -> list[str]:
    return [algorithm_of(settings.compute).command, *settings.arguments()]


def _wait(
    process: "subprocess.Popen[bytes]", stop: StopRequest, on_poll: Callable[[], object]
) -> None:
    """Waits for the process's end, and passes requests to stop on."""
    asked = 0
    while True:
        try:
            process.wait(_POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            on_poll()
        wanted = 2 if stop.is_urgent() else 1 if stop.is_asked() else 0
        if asked < wanted:
            process.send_signal(signal.SIGTERM)
            asked += 1
