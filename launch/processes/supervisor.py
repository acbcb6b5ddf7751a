"""Keeps a process running: starts it again when it dies, until it dies too often.

The rules:

1. A process that ends with status 0, or with one that a restart cannot better, is not restarted.
2. One that dies is restarted after a pause, which doubles with each short life in a row.
3. One whose last `Limits.short_lives` lives were all short is given up: a restart does not help.
4. Asked to stop, the process gets SIGTERM, and SIGKILL when the grace is over or the request
   becomes urgent.
5. It never outlives the supervisor: see `process.die_with_supervisor`.
"""

import dataclasses
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from absl import logging

from kipper.common.errors import KipperError
from kipper.launch.processes.exit_codes import FINAL, describe, shell_status
from kipper.launch.processes.process import SUPERVISOR_VARIABLE
from kipper.launch.processes.stopping import StopRequest

_POLL_SECONDS = 0.1


class GaveUp(KipperError):
    """The process died too often."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """When to restart and when to give up; all times in seconds.

    Attributes:
        short_lives: so many in a row are too many.
        short: a life is, if it was shorter than this; any longer one has done some work.
        first_pause: before the restart after one death.
        longest_pause: however many there were.
        grace: between SIGTERM and SIGKILL.
    """

    short_lives: int = 12
    short: float = 8.0
    first_pause: float = 0.5
    longest_pause: float = 5.0
    grace: float = 75.0


class Deaths:
    """Short lives in a row, and the pause that follows from them."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._short_lives = 0

    def add(self, lived: float) -> float | None:
        """The pause before a restart after a life of `lived` seconds; None: no more restarts."""
        self._short_lives = self._short_lives + 1 if lived < self._limits.short else 0
        if self._short_lives >= self._limits.short_lives:
            return None
        pause = self._limits.first_pause * 2.0 ** max(0, self._short_lives - 1)
        return min(pause, self._limits.longest_pause)


class Supervisor:
    """Runs a command again and again.

    Args:
        name: of the process, for the log.
        command: program and arguments; output goes where this process's goes.
        environment: variables it gets beside this process's.
        limits: of restarts.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._name = name
        self._command = list(command)
        self._environment = dict(environment or {})
        self._limits = limits or Limits()
        self._clock = clock

    def run(self, stop: StopRequest) -> int:
        """Keeps the process running until it ends by itself or `stop` is asked.

        Must go on in the thread that called it: the process dies with that thread.

        Returns:
            The exit status of its last life: 0, or one that a restart could not better; 0 as well
            if this was asked to stop.

        Raises:
            GaveUp: it died too often.
        """
        deaths = Deaths(self._limits)
        for life in itertools.count(1):
            if stop.is_asked():
                break
            born = self._clock()
            status = self._live(stop)
            if stop.is_asked():
                return 0
            if status in FINAL:
                logging.info("%s ended with exit status %d.", self._name, status)
                return status
            lived, cause = self._clock() - born, describe(shell_status(status))
            pause = deaths.add(lived)
            if pause is None:
                raise GaveUp(
                    f"{self._name} died {self._limits.short_lives} times in a row within "
                    f"{self._limits.short:g} s of its start (last: {cause}), so it is not "
                    "started again."
                )
            # With the number of the life: every death is news, not the same warning again.
            logging.warning(
                "%s died (%s) in its life %d, of %.1f s; starting it again in %.1f s.",
                *(self._name, cause, life, lived, pause),
            )
            stop.wait(pause)
        return 0

    def _live(self, stop: StopRequest) -> int:
        """One life of the process; its exit status, negative for the signal that killed it."""
        own = {SUPERVISOR_VARIABLE: str(os.getpid())}
        child = subprocess.Popen(
            self._command,
            env={**os.environ, **self._environment, **own},
            stdin=subprocess.DEVNULL,
            # Ctrl-C at a terminal is for the supervisor, which passes on what follows from it.
            start_new_session=True,
        )
        logging.info("%s runs as process %d.", self._name, child.pid)
        while child.poll() is None and not stop.is_asked():
            time.sleep(_POLL_SECONDS)
        if child.poll() is None:
            self._end(child, stop)
        return child.wait()

    def _end(self, child: subprocess.Popen[bytes], stop: StopRequest) -> None:
        child.terminate()
        deadline = self._clock() + self._limits.grace
        while child.poll() is None:
            if stop.is_urgent() or self._clock() >= deadline:
                logging.warning("%s did not stop in time and is killed.", self._name)
                child.kill()
                return
            time.sleep(_POLL_SECONDS)


def run_all(supervisors: Sequence[Supervisor], stop: StopRequest) -> None:
    """Runs several until all their processes have ended; the main thread listens for signals.

    Raises:
        GaveUp: after the end of all, what was said of the first that was given up.
    """
    failures: list[GaveUp] = []

    def run(supervisor: Supervisor) -> None:
        try:
            supervisor.run(stop)
        except GaveUp as error:
            logging.error("%s", error)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(supervisor,)) for supervisor in supervisors]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
    if failures:
        raise failures[0]
