"""The jobs that `slurm.py` submits; submitit pickles them.

Slurm announces preemption and the time limit by SIGUSR2. The job's processes are then asked to
stop, and submitit's own handler requeues the job.
"""

import contextlib
import os
import pathlib
import signal
import socket
import threading
import time
from collections.abc import Iterator

from submitit.helpers import Checkpointable

from kipper.common.errors import UserError
from kipper.common.settings import RunSettings
from kipper.launch.cluster import plan
from kipper.launch.cluster.fleet import LIMITS, TetheredProcess, run_fleet
from kipper.launch.cluster.meeting_point import MeetingPoint
from kipper.launch.cluster.plan import Process
from kipper.launch.link.transports.addresses import free_port
from kipper.launch.link.worker_process import worker_settings
from kipper.launch.local_program import failure_of
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import Deaths, GaveUp
from kipper.launch.processes.terminal import tell_terminal

# Part of the three minutes that Slurm gives; the rest is for requeuing.
_WELL_ENDED_SECONDS = 120.0
_LOOK_SECONDS = 2.0
_ENDED_BY_SLURM_SECONDS = 300.0


class CoordinatorJob(Checkpointable):
    """Runs the coordinator and its companions here until the run is over."""

    def __init__(self, settings: RunSettings, launch_id: str, python: str):
        self._settings = settings
        self._launch_id = launch_id
        self._python = python

    def __call__(self) -> None:
        """Called by submitit.

        Raises:
            UserError: the coordinator rejected the settings.
            RunFailed: the coordinator failed; the message has its reason. If that may pass, the job
                is requeued first, which ends this process.
        """
        settings = self._settings
        labels = plan.head_labels(settings)
        host = settings.execution.host or os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        first = settings.execution.port or free_port()
        ports = [first, *(free_port() for _ in labels[1:])]
        settings = settings.replace(host=host, port=first)
        addresses = plan.head_addresses(settings, host, ports)
        processes = [
            _tethered(plan.head_process(label, settings, addresses), settings, self._python)
            for label in labels
        ]
        meeting_point = MeetingPoint(settings.execution.workdir, self._launch_id)
        meeting_point.arrive(addresses[f"{plan.COORDINATOR}/0"])
        with stopped_by_slurm() as stop:
            status = run_fleet(processes, tell_terminal, stop)
        if stop.is_asked() or status == ExitCode.INTERRUPTED:
            return
        if status == ExitCode.TEMPORARY:
            requeue_job()
        meeting_point.close()
        if status != ExitCode.DONE:
            raise failure_of(status)(processes[0].last_words())


class WorkerJob(Checkpointable):
    """Runs one worker here until the run is over, wherever the coordinator is."""

    def __init__(self, settings: RunSettings, launch_id: str, python: str, index: int):
        self._settings = settings
        self._launch_id = launch_id
        self._python = python
        self._index = index

    def __call__(self) -> None:
        """Called by submitit.

        Raises:
            UserError: the worker's settings cannot be used, or the coordinator refused it.
            GaveUp: the worker died too often.
        """
        with stopped_by_slurm() as stop:
            given_up = self._serve(stop)
        if given_up is not None:
            status, words = given_up
            if status == ExitCode.TEMPORARY:
                requeue_job()
            raise GaveUp(words)

    def _serve(self, stop: StopRequest) -> tuple[int, str] | None:
        """Runs workers until the run is over or `stop` is asked.

        Returns the exit status and the last words of a worker that died too often.
        """
        deaths = Deaths(LIMITS)
        meeting_point = MeetingPoint(self._settings.execution.workdir, self._launch_id)
        while not stop.is_asked() and not meeting_point.is_over():
            address = meeting_point.address()
            if address is None:
                stop.wait(_LOOK_SECONDS)
                continue
            born = time.monotonic()
            status, words = self._work(address, meeting_point, stop)
            if status == ExitCode.UNUSABLE:
                raise UserError(words)
            if status == ExitCode.DONE:
                return None
            pause: float | None = _LOOK_SECONDS  # the coordinator is preempted or moves
            if status != ExitCode.INTERRUPTED:
                pause = deaths.add(time.monotonic() - born)
            if pause is None:
                return status, words
            stop.wait(pause)
        return None

    def _work(
        self, address: str, meeting_point: MeetingPoint, stop: StopRequest
    ) -> tuple[int, str]:
        """Runs a worker of the coordinator at `address`; returns its exit status and last words.

        The status is `INTERRUPTED` if the coordinator moved.
        """
        process = plan.worker_process(
            self._index, worker_settings(self._settings, self._index, address)
        )
        worker = _tethered(process, self._settings, self._python)
        with stopped_when_moved(stop, address, meeting_point) as here:
            status = run_fleet([worker], tell_terminal, here)
            return (ExitCode.INTERRUPTED if here.is_asked() else status), worker.last_words()


@contextlib.contextmanager
def stopped_when_moved(
    job: StopRequest, address: str, meeting_point: MeetingPoint
) -> Iterator[StopRequest]:
    """A request that follows `job`, and is asked once the coordinator has left `address`."""
    stop, ended = StopRequest(job), threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            if meeting_point.is_over() or meeting_point.address() not in (address, None):
                stop.ask()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        ended.set()
        watcher.join()


@contextlib.contextmanager
def stopped_by_slurm() -> Iterator[StopRequest]:
    """A request that SIGTERM and SIGUSR2 ask; after SIGUSR2 the job is requeued.

    That happens after the block: a signal handler cannot wait for its end.
    """
    stop, announced = StopRequest(), threading.Event()
    timer = threading.Timer(_WELL_ENDED_SECONDS, stop.ask_at_once)
    timer.daemon = True
    requeue = signal.getsignal(signal.SIGUSR2)

    def handler(_number: int, _frame: object) -> None:
        if not announced.is_set():
            announced.set()
            stop.ask()
            timer.start()

    signal.signal(signal.SIGUSR2, handler)
    try:
        with stop.asked_by_signals():
            yield stop
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR2, requeue)
    if announced.is_set() and callable(requeue):
        requeue(signal.SIGUSR2, None)
    elif stop.is_asked():
        # Slurm ends the job, and may requeue it only if it has not ended by itself.
        time.sleep(_ENDED_BY_SLURM_SECONDS)


def requeue_job() -> None:
    """Has submitit requeue this job, which has tried again here for long enough.

    Returns if that is not possible.
    """
    requeue = signal.getsignal(signal.SIGUSR2)
    if callable(requeue):
        requeue(signal.SIGUSR2, None)


def _tethered(process: Process, settings: RunSettings, python: str) -> TetheredProcess:
    command = (python, "-m", "kipper.launch.cluster.tether", python, "-m", "kipper")
    log = pathlib.Path(settings.execution.workdir) / "logs" / f"{process.name}.log"
    return TetheredProcess(process.name, (*command, *process.arguments), log)
