"""The Ray cluster of a run: one that runs already, or one of this machine that ends with it."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator

import ray
from absl import logging

from kipper.common.cores import usable_cores
from kipper.common.errors import TemporaryError, UserError
from kipper.common.settings import ExecutionSettings
from kipper.common.settings.execution import LOCAL_RAY
from kipper.launch.link.open_network import is_loopback
from kipper.launch.link.transports.addresses import is_listening, split_address
from kipper.launch.processes.devices import gpus
from kipper.launch.ray.channel import is_client
from kipper.launch.ray.lifelines import Lifeline, far, near_and_far
from kipper.launch.ray.placement import Resources, need_of, room_for
from kipper.launch.ray.words import reason_of

_AUTO, _VARIABLE = "auto", "RAY_ADDRESS"  # Ray takes the one from the other
_CLIENT = "ray://"
_CONNECT_SECONDS = 5.0
_LOOPBACK = "127.0.0.1"
# By default a Ray whose processes start slowly, on a busy machine, ends itself and this process.
_PATIENCE = {"agent_register_timeout_ms": 180_000, "raylet_client_num_connect_attempts": 180}
_PREFIX = "kipper-ray."


@contextlib.contextmanager
def connected(settings: ExecutionSettings) -> Iterator[Resources]:
    """Connects this process to the Ray of a run while the block runs.

    A process that has connected to Ray before stays connected, whatever the address.

    Yields:
        what each worker of the run takes.

    Raises:
        UserError: there is no cluster at the address, it has another Ray or Python, or no GPU where
            GPUs are wanted.
        TemporaryError: a Ray of the run's own did not start.
    """
    asked = settings.ray_device, settings.threads, settings.num_workers
    if ray.is_initialized():
        logging.info("This process is connected to Ray already; the workers run there.")
        yield need_of(nodes(), *asked)
        return
    with contextlib.ExitStack() as stack:
        if is_own(settings):
            machine = Resources(usable_cores(), len(gpus()))
            need = need_of([machine], *asked)
            # Ray only counts: the evaluator shares the cores with the workers.
            number = 1 + (settings.fixed_workers or room_for(need, [machine]))
            _start(Resources(max(machine.cpus, number * need.cpus), machine.gpus), stack)
            stack.callback(ray.shutdown)
            yield need
        else:
            _connect(settings.ray_address)
            stack.callback(ray.shutdown)
            yield need_of(nodes(), *asked)


def is_own(settings: ExecutionSettings) -> bool:
    """Whether a run has a Ray of its own on this machine."""
    return settings.ray_address == LOCAL_RAY


def lifelines_of(settings: ExecutionSettings) -> list[Lifeline]:
    """The lifelines of a run in this process, which is connected."""
    if not is_client():
        return near_and_far(is_own(settings))
    address = named(settings.ray_address)
    client = address.removeprefix(_CLIENT)
    return [far(client, by_client=True)] if client != address else []  # it was connected before


def named(address: str) -> str:
    """The address, or that which the environment names if it is auto."""
    return os.environ.get(_VARIABLE, _AUTO) if address == _AUTO else address


def nodes() -> list[Resources]:
    """The resources of each living node of the cluster."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Resources(each.get("CPU", 0), each.get("GPU", 0)) for each in found]


def free() -> Resources:
    """The resources of the cluster that nobody uses."""
    found = ray.available_resources()
    return Resources(found.get("CPU", 0), found.get("GPU", 0))


def _start(has: Resources, stack: contextlib.ExitStack) -> None:
    """Starts a Ray of this machine, whose processes the kernel ends with this one.

    Raises:
        TemporaryError: it did not start.
    """
    folder = stack.enter_context(_session_folder())
    try:
        with _own_signals():
            ray.init(
                address=LOCAL_RAY,
                num_cpus=has.cpus,
                num_gpus=has.gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                _node_ip_address=_LOOPBACK,  # or Ray listens on every interface; see set_up_ray
                _temp_dir=folder,
                _system_config=_PATIENCE,
            )
    except Exception as error:  # Ray raises a bare one if a process of its own does not start
        raise TemporaryError(
            f"Ray did not start on this machine ({reason_of(error)}); give the same command again, "
            "or --launch=inprocess."
        ) from error
    head = ray.get_runtime_context().gcs_address
    if not is_loopback(split_address(head)[0]):
        logging.warning(
            "Ray listens at %s, and anyone who can reach that can run programs here, because this "
            "process had imported Ray before. Begin the run first, or in a process of its own.",
            head,
        )


@contextlib.contextmanager
def _session_folder() -> Iterator[str]:
    """A folder for Ray's sockets, whose names must be short; removes those of killed processes."""
    for earlier in pathlib.Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), _locked(earlier):  # one that is in use stays
            shutil.rmtree(earlier)
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    with _locked(pathlib.Path(folder)):
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds a folder's lock, which ends with the process; raises an OSError if another does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _connect(address: str) -> None:
    said = f"--ray_address={address}"
    if address == _AUTO:
        address = named(address)
        said = f"{_VARIABLE}={address}" if address != _AUTO else said
    host_and_port = address.removeprefix(_CLIENT)
    if address != _AUTO and not re.fullmatch(r"(\[.+\]|[^:/]+):\d+", host_and_port):
        raise UserError(f"{said}; it must be local, auto, HOST:PORT or ray://HOST:PORT.")
    # Ray would wait for minutes.
    if address != _AUTO and not is_listening(host_and_port, _CONNECT_SECONDS):
        raise UserError(
            f"{said}: nothing listens there. HOST:PORT is that of the head node, "
            "which ray start --head prints; ray://HOST:PORT is its client server, port 10001."
        )
    try:
        with _own_signals():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        raise UserError(
            f"{said}: no connection to Ray ({reason_of(error)}); start it on this "
            "machine by ray start, with the token or certificates that this command has, if any."
        ) from error
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(f"{said}: {reason_of(error)}.") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Puts back the handling of SIGTERM, which Ray replaces when it connects."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
