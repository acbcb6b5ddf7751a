"""`kipper slurm_job`: one of the jobs that `slurm.py` submits; the batch script executes it.

Slurm announces preemption and the time limit to this process alone by SIGUSR2. The job's work is
then asked to stop, and the job is requeued. SIGTERM reaches all processes of the job once Slurm has
decided to end it, by scancel or to requeue it. The job must then not requeue itself, which would
undo an scancel.
"""

import contextlib
import dataclasses
import enum
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from kipper.common.errors import TemporaryError, UserError
from kipper.common.settings import RunSettings, SlurmJobSettings
from kipper.launch.cluster import plan, slurm_queue
from kipper.launch.cluster.meeting_point import MeetingPoint, read_launch
from kipper.launch.link.transports.addresses import free_port
from kipper.launch.link.worker_process import worker_settings
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import (
    Limits,
    after_failure,
    after_kill,
    local_command,
    supervise,
)
from kipper.launch.processes.terminal import tell_terminal
from kipper.server.status import SILENCE_SECONDS, StatusWriter, read_status, silence
from kipper.server.workdir import Workdir

# Part of the three minutes that Slurm gives; the rest is for requeuing.
_WELL_ENDED_SECONDS = 120.0
_LIMITS = Limits(
    short_lives=10, short=60.0, first_pause=1.0, longest_pause=60.0, grace=_WELL_ENDED_SECONDS
)
_LOOK_SECONDS = 2.0
# Between two questions to Slurm about a coordinator that is silent.
_ASK_SECONDS = 60.0
# A worker keeps its GPU for so long while the coordinator's job waits to begin again.
_PATIENCE_SECONDS = 3600.0


def run_job(job: SlurmJobSettings, settings: RunSettings) -> None:
    """The command; ends this process with the exit status of the coordinator or the worker.

    Raises:
        UserError: another run is in the workdir, or this is no job of Slurm.
        SlurmError: the job could not be requeued.
    """
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError("kipper slurm_job runs in a job of Slurm; kipper launch submits it.")
    with told_by_slurm() as notice:
        try:
            if job.coordinator_job is None:
                status = _coordinate(settings, notice)
            else:
                status = _WorkerJob(job, job.coordinator_job, settings, notice).serve()
        except TemporaryError as error:  # a full disk, for example
            tell_terminal(str(error))
            status = ExitCode.TEMPORARY
        if (status == ExitCode.TEMPORARY or notice.stop.is_asked()) and not notice.is_final:
            slurm_queue.requeue(after=job.coordinator_job)
    sys.exit(status)


@dataclasses.dataclass
class Notice:
    """The signals that Slurm has sent this job.

    Attributes:
        stop: Slurm will end the job soon: its work is to stop, and the job to be requeued.
        is_final: Slurm is ending the job, and has decided whether it is requeued.
    """

    stop: StopRequest = dataclasses.field(default_factory=StopRequest)
    is_final: bool = False


@contextlib.contextmanager
def told_by_slurm() -> Iterator[Notice]:
    """Notes Slurm's signals while the block runs."""
    notice = Notice()

    def on_end(_number: int, _frame: object) -> None:
        notice.is_final = True  # the job's work has the same signal

    before = signal.signal(signal.SIGTERM, on_end)
    try:
        with notice.stop.asked_by_signals(signals=(signal.SIGUSR2,)):
            yield notice
    finally:
        signal.signal(signal.SIGTERM, before)


def _coordinate(settings: RunSettings, notice: Notice) -> int:
    """Runs the coordinator here until the run is over; returns its exit status.

    Raises:
        UserError: another run is in the workdir.
    """
    execution = settings.execution
    name = execution.host or os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    port = execution.port or free_port()
    point = MeetingPoint(execution.workdir, os.environ["SLURM_JOB_ID"])
    with Workdir(execution.workdir).launched():
        point.arrive(f"{name}:{port}")
        process = plan.coordinator_process(settings, name, port)
        with _ended_without_workers(Workdir(execution.workdir), notice.stop) as (stop, reasons):
            status = _run("The coordinator", process.arguments, after_kill, stop)
        for reason in reasons:
            status = ExitCode.FAILED
            tell_terminal(reason)
            writer = StatusWriter(Workdir(execution.workdir).status)
            writer.status = read_status(Workdir(execution.workdir).status)
            writer.update(now=True, state="failed", message=reason, dashboard=None)
        if status not in (ExitCode.INTERRUPTED, ExitCode.TEMPORARY):
            point.close()
    return status


@contextlib.contextmanager
def _ended_without_workers(
    workdir: Workdir, parent: StopRequest
) -> Iterator[tuple[StopRequest, list[str]]]:
    """A request that becomes urgent once no worker can come; the list then has the reason."""
    stop, reasons = StopRequest(parent), list[str]()
    launch = read_launch(workdir.path)

    def watch(job: str, ended: threading.Event) -> None:
        alone_since = asked = time.monotonic()
        while not ended.wait(_LOOK_SECONDS):
            now, status = time.monotonic(), read_status(workdir.status)
            if status.workers or status.state not in ("starting", "running"):
                alone_since = now
            elif now - alone_since >= SILENCE_SECONDS and now - asked >= _ASK_SECONDS:
                asked = now
                states = slurm_queue.living(job)
                if states is not None and job not in states:
                    reasons.append(
                        f"The run has no worker, and Slurm's job {job} of workers has ended; "
                        f"slurm/worker-{job}_*.log in the run say why, and the same command "
                        "resumes it."
                    )
                    stop.ask_at_once()
                    return

    with contextlib.ExitStack() as stack:
        if launch is not None:
            ended = threading.Event()
            watcher = threading.Thread(target=watch, args=(launch.workers_job, ended), daemon=True)
            watcher.start()
            stack.callback(watcher.join)
            stack.callback(ended.set)
        yield stop, reasons


def _run(
    name: str,
    arguments: tuple[str, ...],
    should_restart: Callable[[int, int], bool],
    stop: StopRequest,
) -> int:
    command = [sys.executable, "-u", "-m", "kipper", *arguments]
    program = dataclasses.replace(local_command(name, command), should_restart=should_restart)
    (ending,) = supervise([program], stop, tell_terminal, _LIMITS)
    return ending.status


class _News(enum.Enum):
    """The reasons that end a worker before the coordinator sends it away."""

    OVER = enum.auto()  # the run is over
    MOVED = enum.auto()  # the coordinator has another address
    GONE = enum.auto()  # its job has ended for good
    AWAY = enum.auto()  # its job has waited for too long to begin again


class _WorkerJob:
    """A worker's job: workers one after another, wherever the coordinator is."""

    def __init__(
        self, job: SlurmJobSettings, coordinator_job: str, settings: RunSettings, notice: Notice
    ):
        self._job = job
        self._coordinator_job = coordinator_job
        self._settings = settings
        self._notice = notice
        self._point = MeetingPoint(settings.execution.workdir, coordinator_job)
        self._status = Workdir(settings.execution.workdir).status
        self._born = time.monotonic()
        self._ask_at = 0.0

    def serve(self) -> int:
        """Runs workers until the run is over or Slurm ends the job; returns an exit status."""
        while not (self._notice.is_final or self._notice.stop.is_asked()):
            address = self._point.address()
            with self._watching(address) as (stop, news):
                if address is None:
                    while not (self._notice.is_final or stop.wait(_LOOK_SECONDS)):
                        pass
                else:
                    status = self._work(address, stop)
                    if status != ExitCode.INTERRUPTED and not stop.is_asked():
                        return status
                    self._notice.stop.wait(_LOOK_SECONDS)  # the coordinator stops as well
            match news:
                case [_News.OVER]:
                    return ExitCode.DONE
                case [_News.GONE]:
                    job = self._coordinator_job
                    tell_terminal(f"The coordinator's job {job} has ended, and so does this one.")
                    return ExitCode.DONE
                case [_News.AWAY]:
                    return ExitCode.TEMPORARY
        return ExitCode.INTERRUPTED

    def _work(self, address: str, stop: StopRequest) -> int:
        """Runs a worker of the coordinator at `address`; returns its exit status."""
        index = int(os.environ["SLURM_ARRAY_TASK_ID"])
        worker = worker_settings(self._settings, index, address)
        cpus = os.environ.get("SLURM_CPUS_PER_TASK")
        worker = dataclasses.replace(
            worker,
            threads=worker.threads or (int(cpus) if cpus else None),
            needs_gpu=self._job.needs_gpu,
        )
        process = plan.worker_process(worker)
        return _run(process.name, process.arguments, after_failure, stop)

    @contextlib.contextmanager
    def _watching(self, address: str | None) -> Iterator[tuple[StopRequest, list[_News]]]:
        """A stop request that is asked once there is news, which is then in the list."""
        stop, ended, news = StopRequest(self._notice.stop), threading.Event(), list[_News]()

        def watch() -> None:
            while not ended.wait(_LOOK_SECONDS):
                if (found := self._news(address)) is not None:
                    news.append(found)
                    stop.ask()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield stop, news
        finally:
            ended.set()
            watcher.join()

    def _news(self, address: str | None) -> _News | None:
        if self._point.is_over():
            return _News.OVER
        if self._point.address() not in (address, None):
            return _News.MOVED
        now = time.monotonic()
        quiet = min(silence(self._status), now - self._born)
        if quiet < SILENCE_SECONDS or now < self._ask_at:
            return None
        self._ask_at = now + _ASK_SECONDS
        states = slurm_queue.living(self._coordinator_job)
        if states is not None and self._coordinator_job not in states:
            return _News.GONE
        waits = states is None or slurm_queue.is_waiting(states[self._coordinator_job])
        return _News.AWAY if waits and quiet > _PATIENCE_SECONDS else None
