"""`kipper worker`: a process that computes blocks for a run.

It may start before the coordinator and outlive it, and finishes its blocks when asked to stop.
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
from kipper.launch.link.worker_names import own_name
from kipper.launch.processes.devices import check_gpu, count_devices, gpus, use_device
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.process import die_with_supervisor, forget_proxies
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.processes.supervisor import local_command, run_all

# Time for the block in progress when the worker is asked to leave.
_LEAVE_SECONDS = 60.0
# Time for work in progress when the run is over, whose result nobody needs.
LAST_SECONDS = 1.0


class WorkerEnding(enum.Enum):
    """How a worker ended."""

    OVER = enum.auto()  # the run is over
    OVER_AT_WORK = enum.auto()  # the run is over, and a block is still being computed
    LEFT = enum.auto()  # asked to stop, or the run was interrupted
    CUT_OFF = enum.auto()  # as LEFT, and a block may still be being computed


def run_worker(settings: WorkerSettings) -> None:
    """The command: one worker in this process, or one supervised process for each device.

    Returns when the run is over.

    Raises:
        Interrupted: the worker was asked to leave, or the run was interrupted; the exit status
            tells a cluster to restart the worker.
        UserError: a setting cannot be used, the network is open, or the coordinator refuses the
            worker.
        KipperError: the coordinator did not answer for longer than `patience`, or one of several
            workers died too often.
    """
    settings.check()
    host, _ = split_address(settings.coordinator)
    if not is_loopback(host):
        check_open_network(settings.transport, settings.allow_open_network, settings.advertise_host)

    def on_signal(times: int) -> None:
        if times > 1 and not settings.all_devices:
            os._exit(ExitCode.INTERRUPTED)  # even while a block is being computed

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
        if settings.needs_gpu:
            check_gpu()
        ending = serve_worker(settings, stop)
    if ending in (WorkerEnding.CUT_OFF, WorkerEnding.OVER_AT_WORK):
        # Python's own exit would abort while a block is being computed.
        logging.flush()
        os._exit(ExitCode.INTERRUPTED if ending is WorkerEnding.CUT_OFF else ExitCode.DONE)
    if ending is WorkerEnding.LEFT:
        raise Interrupted("The worker left the run, which may continue.")


def serve_worker(settings: WorkerSettings, stop: StopRequest) -> WorkerEnding:
    """Serves blocks until the run ends or `stop` is asked.

    Raises:
        UserError: the port is taken, the coordinator refuses the worker, or the worker cannot
            evaluate the run's kernel.
        Unreachable: the coordinator did not answer for longer than `patience`.
    """
    # This imports JAX, so it comes after the choice of devices; and before the worker joins.
    from kipper.workers.service import WorkerService

    logs.take_from_libraries()
    with_hashes(settings.architecture or "")  # this process may run these from now on
    transport = transport_named(settings.transport, settings.certificates)
    name = settings.name or own_name()
    service = WorkerService(settings.threads)
    logs.now_about(worker=name)
    listener = transport.listen(logs.carried(service.handle), settings.port)
    logging.info("Listening on port %d.", listener.port)
    if settings.chaos is not None:
        attack_this_process(parse_chaos(settings.chaos))
    coordinator = CoordinatorClient(settings.coordinator, transport)

    def ask(call: Call) -> Answer:
        refusal = service.refusal()
        if refusal is not None:  # otherwise the coordinator would repeat its request
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
                return WorkerEnding.OVER if goodbye.is_over else WorkerEnding.LEFT
            return WorkerEnding.OVER_AT_WORK if goodbye.is_over else WorkerEnding.CUT_OFF
        left = registration.leave(_LEAVE_SECONDS)
        logging.info("The worker %s.", "left" if left else "was not waited for any longer")
        return WorkerEnding.LEFT if left else WorkerEnding.CUT_OFF


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
    """The command line of a worker process."""
    return [sys.executable, "-m", "kipper", "worker", *arguments_of(settings)]


def device_commands(settings: WorkerSettings) -> list[tuple[str, list[str]]]:
    """The name and command line of a worker for each device of this machine."""
    base = settings.name or own_name()
    if not gpus():
        logging.info("No GPU is found: one worker starts, on the CPU (kipper doctor says why).")
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


def _own_host(settings: WorkerSettings) -> str:
    """The name or address of this host for the coordinator.

    Raises:
        Unreachable: the coordinator's host cannot be resolved, or has no route.
    """
    if settings.advertise_host:
        return settings.advertise_host
    host, port = split_address(settings.coordinator)
    problem: OSError | None = None
    try:
        routes = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise Unreachable(f"{host}: {error}") from error
    for family, kind, _, _, address in routes:
        try:
            with socket.socket(family, kind) as probe:
                probe.connect(address)  # sends nothing; the system chooses the route
                own = str(probe.getsockname()[0])
        except OSError as error:
            problem = error
        else:
            return f"[{own}]" if ":" in own else own
    raise Unreachable(f"{host}: {problem}")
