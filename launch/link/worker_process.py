"""`kipper worker`: a process that computes blocks for a run, wherever it is started.

It may come before the coordinator and outlive it, and leaves in good order when asked to.
"""

import contextlib
import dataclasses
import enum
import os
import socket
import sys
import uuid

from absl import logging

from kipper.common import logs
from kipper.common.chaos import parse_chaos
from kipper.common.errors import Interrupted, UserError
from kipper.common.messages import Answer, Call
from kipper.common.network_file import with_hashes
from kipper.common.settings import RunSettings, WorkerSettings, arguments_of
from kipper.launch.link.chaos import attack_this_process
from kipper.launch.link.open_network import check_open_network, is_loopback
from kipper.launch.link.registration import CoordinatorClient, Registration, Unreachable
from kipper.launch.link.transports import transport_named
from kipper.launch.link.transports.addresses import split_address
from kipper.launch.processes.devices import count_devices, use_device
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.process import die_with_supervisor, forget_proxies
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import local_command, run_all

# For the block under way when the worker is asked to leave.
_LEAVE_SECONDS = 60.0
# For what is under way when the run is over, which nobody waits for.
LAST_SECONDS = 1.0


class Ending(enum.Enum):
    """How a worker ended."""

    OVER = enum.auto()  # with the run
    OVER_AT_WORK = enum.auto()  # with the run, and a block is still under way
    LEFT = enum.auto()  # asked to, or because the run was interrupted: there may be more to do
    CUT_OFF = enum.auto()  # likewise, and a block may still be under way


def run_worker(settings: WorkerSettings) -> None:
    """The command: one worker in this process, or one process for each device under a supervisor.

    Returns when the run is over.

    Raises:
        Interrupted: the worker was asked to leave and has left, or the run was interrupted; so the
            exit status tells a cluster to start it again.
        UserError: a setting cannot be used, the network is open, or the coordinator refuses the
            worker.
        KipperError: the coordinator was away for longer than patience lasts, or a worker of
            several died too often.
    """
    settings.check()
    host, _ = split_address(settings.coordinator)
    if not is_loopback(host):
        check_open_network(settings.transport, settings.allow_open_network, settings.advertise_host)

    def on_signal(times: int) -> None:
        if times > 1 and not settings.all_devices:
            os._exit(ExitCode.INTERRUPTED)  # whatever it is at

    stop = StopRequest()
    with stop.asked_by_signals(on_signal):
        if settings.all_devices:
            commands = device_commands(settings)
            run_all([local_command(f"Worker {name}", command) for name, command in commands], stop)
            return
        die_with_supervisor()
        forget_proxies()
        if settings.device is not None:
            use_device(settings.device)
        ending = serve_worker(settings, stop)
    if ending in (Ending.CUT_OFF, Ending.OVER_AT_WORK):
        # A block is still being computed, which no exit of Python's would survive.
        logging.flush()
        os._exit(ExitCode.INTERRUPTED if ending is Ending.CUT_OFF else ExitCode.DONE)
    if ending is Ending.LEFT:
        raise Interrupted("The worker left a run that may go on.")


def serve_worker(settings: WorkerSettings, stop: StopRequest) -> Ending:
    """Serves blocks until the run ends or `stop` is asked.

    Raises:
        UserError: the port is taken, the coordinator refuses the worker, or the worker the run's
            kernel, which it cannot evaluate here.
        Unreachable: the coordinator was away for longer than patience lasts.
    """
    # Imports JAX: not before the devices are chosen, and before there is a run that waits.
    from kipper.workers.service import WorkerService

    logs.take_from_libraries()
    with_hashes(settings.architecture or "")  # which this process may run from now on
    transport = transport_named(settings.transport, settings.certificates)
    name = settings.name or _own_name()
    service = WorkerService(settings.threads)
    logs.now_about(worker=name)
    listener = transport.listen(logs.carried(service.handle), settings.port)
    logging.info("Listening on port %d.", listener.port)
    if settings.chaos is not None:
        attack_this_process(parse_chaos(settings.chaos))
    coordinator = CoordinatorClient(settings.coordinator, transport)

    def ask(call: Call) -> Answer:
        refusal = service.refusal()
        if refusal is not None:  # it would be asked the same again and again
            raise UserError(refusal)
        return coordinator.ask(call)

    with contextlib.closing(listener), contextlib.closing(coordinator):
        registration = Registration(
            ask,
            name,
            uuid.uuid4().hex,
            lambda: f"{_own_host(settings)}:{listener.port}",
            settings.patience,
            stop,
        )
        goodbye = registration.stay()
        if service.run():
            logs.now_about(run=service.run())
        if goodbye is not None:
            logging.info("The worker ends: %s", goodbye.reason)
            if service.is_idle(within=LAST_SECONDS):
                return Ending.OVER if goodbye.is_over else Ending.LEFT
            return Ending.OVER_AT_WORK if goodbye.is_over else Ending.CUT_OFF
        left = registration.leave(_LEAVE_SECONDS)
        logging.info("The worker %s.", "left" if left else "was not waited for any longer")
        return Ending.LEFT if left else Ending.CUT_OFF


def worker_settings(settings: RunSettings, index: int, coordinator: str) -> WorkerSettings:
    """Settings of worker number `index` of a run whose coordinator is at host:port."""
    return WorkerSettings(
        coordinator=coordinator,
        name=f"worker-{index}",
        threads=settings.execution.threads,
        architecture=settings.compute.own_networks,
        transport=settings.execution.transport,
        certificates=settings.execution.certificates,
        allow_open_network=settings.execution.allow_open_network,
        log_format=settings.execution.log_format,
    )


def worker_command(settings: WorkerSettings) -> list[str]:
    """The command line of a process that is this worker."""
    return [sys.executable, "-m", "kipper", "worker", *arguments_of(settings)]


def device_commands(settings: WorkerSettings) -> list[tuple[str, list[str]]]:
    """Name and command line of a worker for each device of this machine."""
    base = settings.name or _own_name()
    each = [
        dataclasses.replace(
            settings,
            all_devices=False,
            device=device,
            name=f"{base}-{device}",
            port=settings.port and settings.port + device,
        )
        for device in range(count_devices())
    ]
    return [(str(one.name), worker_command(one)) for one in each]


def _own_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def _own_host(settings: WorkerSettings) -> str:
    """What the coordinator is to call this host by.

    Raises:
        Unreachable: the coordinator's name is not known here, or no way leads there.
    """
    if settings.advertise_host:
        return settings.advertise_host
    host, port = split_address(settings.coordinator)
    problem: OSError | None = None
    try:
        ways = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise Unreachable(f"{host}: {error}") from error
    for family, kind, _, _, address in ways:
        try:
            with socket.socket(family, kind) as probe:
                probe.connect(address)  # sends nothing; has the system choose the way
                own = str(probe.getsockname()[0])
        except OSError as error:
            problem = error
        else:
            return f"[{own}]" if ":" in own else own
    raise Unreachable(f"{host}: {problem}")
