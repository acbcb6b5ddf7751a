"""The Ray cluster of a run: one that runs already, or one of this machine that ends with it."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator

import ray
from absl import logging

from kipper.common.errors import UserError
from kipper.launch.ray.channel import one_line
from kipper.launch.ray.placement import Need

LOCAL = "local"


@contextlib.contextmanager
def connected(address: str, need: Need, num_workers: int) -> Iterator[None]:
    """Connects this process to Ray while the block runs.

    A process that has connected to Ray before stays connected, whatever the address.

    Args:
        address: value of --ray_address.
        need: of each worker; a local cluster has just what all of them need.
        num_workers: their number.

    Raises:
        UserError: there is no cluster at the address, or it has another Ray or Python.
    """
    if ray.is_initialized():
        logging.info("This process is connected to Ray already; the workers run there.")
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with _signals_as_they_were(), contextlib.ExitStack() as stack:
        if address == LOCAL:
            folder = tempfile.mkdtemp(prefix="kipper-ray-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            ray.init(
                address=LOCAL,
                num_cpus=need.cpus * num_workers,
                num_gpus=need.gpus * num_workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=folder,
            )
        else:
            try:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"--ray_address={address}: no connection to Ray ({one_line(error)})."
                ) from error
        stack.callback(ray.shutdown)
        yield


@contextlib.contextmanager
def _signals_as_they_were() -> Iterator[None]:
    """Undoes what Ray does to this process's handling of signals, at once and at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
