"""A run on the hosts of a file, by ssh from this machine.

The first host runs the coordinator; all hosts run workers. This process stays until the run ends:
it restarts processes that die (`fleet.py`), and they end if it ends (`tether.py`).
"""

import dataclasses
import os
import pathlib
import re
import shlex
import sys

from kipper.common.errors import Interrupted, UserError
from kipper.common.settings import LaunchSettings, RunSettings
from kipper.launch.cluster import plan
from kipper.launch.cluster.fleet import TetheredProcess, run_fleet
from kipper.launch.cluster.plan import Process
from kipper.launch.link.worker_process import worker_settings
from kipper.launch.local_program import failure_of
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.stopping import STOPPING, StopRequest
from kipper.launch.processes.terminal import tell_terminal
from kipper.server.workdir import Workdir

# A name, or user@name, that ssh cannot take for an option.
_HOST = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9_][\w.-]*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Host:
    """A line of the hosts file.

    Attributes:
        target: argument of ssh: a name, or user@name.
        slots: maximum number of workers.
        has_gpus: whether each worker has the GPU with its number to itself.
    """

    target: str
    slots: int = 1
    has_gpus: bool = False

    @property
    def name(self) -> str:
        """The name by which other hosts reach it."""
        return self.target.rpartition("@")[2]


def read_hosts(path: str) -> list[Host]:
    """Reads hosts: one name a line, optionally with `slots=N` or `gpus=N`; # begins a comment.

    Raises:
        UserError: the file cannot be read, or a line of it cannot be understood.
    """
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UserError(f"The hosts file {path!r} cannot be read: {reason}.") from error
    hosts: list[Host] = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if words:
            hosts.append(_host(words, f"Line {number} of {path}"))
            if hosts[-1].name in (host.name for host in hosts[:-1]):
                raise UserError(
                    f"Line {number} of {path} repeats {hosts[-1].name}; give it slots=N instead."
                )
    if not hosts:
        raise UserError(f"{path} names no host; write one per line.")
    return hosts


def _host(words: list[str], where: str) -> Host:
    target, *options = words
    if not _HOST.fullmatch(target):
        raise UserError(f"{where} begins with {target!r}, which is not a host name.")
    if not options:
        return Host(target)
    match = re.fullmatch(r"(slots|gpus)=([1-9]\d{0,3})", options[0])
    if match is None or len(options) > 1:
        raise UserError(
            f"{where} has {' '.join(options)!r} after {target}; it may have slots=N or gpus=N."
        )
    return Host(target, int(match[2]), match[1] == "gpus")


def make_processes(hosts: list[Host], settings: RunSettings) -> list[Process]:
    """The processes of a run, the coordinator first; workers are spread evenly.

    Raises:
        UserError: the hosts have too few slots.
    """
    slots = [(host, slot) for host in hosts for slot in range(host.slots)]
    num_workers = settings.execution.fixed_workers
    if num_workers > len(slots):
        raise UserError(
            f"--num_workers is {num_workers}, but the hosts have {len(slots)} slots; "
            "write slots=N or gpus=N after their names."
        )
    slots.sort(key=lambda place: place[1])
    head, port = hosts[0], plan.fixed_port(settings)
    workers = [
        plan.worker_process(
            dataclasses.replace(
                worker_settings(settings, index, f"{head.name}:{port}"),
                advertise_host=host.name,
                device=slot if host.has_gpus else None,
                needs_gpu=host.has_gpus,
            ),
            host.target,
        )
        for index, (host, slot) in enumerate(slots[:num_workers])
    ]
    return [plan.coordinator_process(settings, head.name, port, head.target), *workers]


def remote_command(process: Process, launch: LaunchSettings) -> tuple[str, ...]:
    """The command that runs `process` on its host, tethered."""
    python = launch.python or sys.executable
    kipper = [python, "-m", "kipper", *process.arguments]
    tethered = shlex.join([python, "-m", "kipper.launch.cluster.tether", *kipper])
    folder = shlex.quote(launch.directory or os.getcwd())
    return (*shlex.split(launch.ssh), process.host, f"cd {folder} && exec {tethered}")


def launch_on_hosts(launch: LaunchSettings, settings: RunSettings, path: str) -> None:
    """Runs on the hosts of the file `path` until the end.

    Raises:
        UserError: refused before anything started, or by the coordinator before it began.
        Interrupted: by Ctrl-C or SIGTERM.
        RunFailed: the coordinator said why it failed, or died too often.
    """
    processes = make_processes(read_hosts(path), settings)
    plan.check_transport(launch, settings)
    commands = {process: remote_command(process, launch) for process in processes}
    if launch.dry_run:
        for process, command in commands.items():
            print(f"{process.name} on {process.host}:\n  {shlex.join(command)}")
        return
    workdir = Workdir(settings.execution.workdir)
    with workdir.launched():
        _run(
            [
                TetheredProcess(
                    process.name, command, workdir.logs / f"{process.name}.log", process.host
                ).at_the_end_of_its_log()
                for process, command in commands.items()
            ]
        )


def _run(processes: list[TetheredProcess]) -> None:
    def on_signal(times: int) -> None:
        if times == 1:
            tell_terminal(STOPPING)

    leader, stop = processes[0], StopRequest()
    with stop.asked_by_signals(on_signal):
        status = run_fleet(processes, tell_terminal, stop)
    if status == ExitCode.DONE:
        return
    if status == ExitCode.INTERRUPTED or stop.is_asked():
        raise Interrupted("The run was interrupted; the same command resumes it.")
    words = leader.last_words()
    if status == ExitCode.SSH:
        raise UserError(
            f"Host {leader.host} cannot be reached ({words}); {leader.command[0]} must let you in "
            "without a password."
        )
    raise failure_of(status)(
        f"The coordinator on {leader.host} ended: {words} (its log is {leader.log})."
    )
