"""The Ray cluster of a run: one that runs already, or one of this machine that ends with it."""

import contextlib
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator

import ray
from absl import logging

from kipper.common.cores import usable_cores
from kipper.common.errors import UserError
from kipper.common.settings import ExecutionSettings
from kipper.common.settings.execution import LOCAL_RAY
from kipper.launch.link.transports.addresses import is_listening
from kipper.launch.processes.devices import gpus
from kipper.launch.ray.placement import Resources, need_of, room_for
from kipper.launch.ray.words import reason_of

_AUTO = "auto"
_CLIENT = "ray://"
_CONNECT_SECONDS = 5.0


@contextlib.contextmanager
def connected(settings: ExecutionSettings) -> Iterator[Resources]:
    """Connects this process to the Ray of a run while the block runs.

    A process that has connected to Ray before stays connected, whatever the address.

    Yields:
        what each worker of the run takes.

    Raises:
        UserError: there is no cluster at the address, it has another Ray or Python, or no GPU where
            GPUs are wanted.
    """
    asked = settings.ray_device, settings.threads, settings.num_workers
    if ray.is_initialized():
        logging.info("This process is connected to Ray already; the workers run there.")
        yield need_of(nodes(), *asked)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with _own_signals(), contextlib.ExitStack() as stack:
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


def nodes() -> list[Resources]:
    """What each node of the cluster has that lives."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Resources(each.get("CPU", 0), each.get("GPU", 0)) for each in found]


def free() -> Resources:
    """What the cluster has and nobody uses."""
    found = ray.available_resources()
    return Resources(found.get("CPU", 0), found.get("GPU", 0))


def _start(has: Resources, stack: contextlib.ExitStack) -> None:
    """Starts a Ray of this machine, whose processes the kernel ends with this one."""
    folder = tempfile.mkdtemp(prefix="kipper-ray-")  # short, for the names of sockets
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    ray.init(
        address=LOCAL_RAY,
        num_cpus=has.cpus,
        num_gpus=has.gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )


def _connect(address: str) -> None:
    host_and_port = address.removeprefix(_CLIENT)
    if address != _AUTO and not re.fullmatch(r"(\[.+\]|[^:/]+):\d+", host_and_port):
        raise UserError(
            f"--ray_address is {address!r}; it must be local, auto, HOST:PORT or ray://HOST:PORT."
        )
    # Ray would wait for minutes.
    if address != _AUTO and not is_listening(host_and_port, _CONNECT_SECONDS):
        raise UserError(
            f"--ray_address={address}: nothing listens there. HOST:PORT is that of the head node, "
            "which ray start --head prints; ray://HOST:PORT is its client server, port 10001."
        )
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        raise UserError(
            f"--ray_address={address}: no connection to Ray ({reason_of(error)}); start it on this "
            "machine by ray start, or leave out the address."
        ) from error
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(f"--ray_address={address}: {reason_of(error)}.") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Puts back the handling of SIGTERM that Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
