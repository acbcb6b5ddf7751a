"""Settings of `worker`."""

import dataclasses

from kipper.common.chaos import parse_chaos
from kipper.common.errors import UserError
from kipper.common.network_file import with_hashes
from kipper.common.settings.field import (
    LogFormat,
    Settings,
    TransportName,
    certificates_setting,
    log_format_setting,
    open_network_setting,
    required,
    setting,
    transport_setting,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSettings(Settings):
    """Settings of `worker`, which computes kernel blocks for a run's coordinator."""

    coordinator: str = required(
        "HOST:PORT of the run to join.",
        "--coordinator is required: the HOST:PORT of the run to join.",
    )
    port: int = setting(0, "Port to listen on; 0 takes a free port.")
    advertise_host: str | None = setting(
        None,
        "Name or address at which the coordinator reaches this host; by default the address that "
        "this host uses towards the coordinator.",
    )
    name: str | None = setting(
        None,
        "Name of the worker, unique in the run and the same after a restart; by default made from "
        "the host's name, a mark of its container, and the first number that is free there.",
    )
    device: int | None = setting(
        None, "Number of the one GPU of this machine to use; by default all."
    )
    needs_gpu: bool = setting(
        False, "Refuse to compute on the CPU: end with an error if there is no GPU to use."
    )
    all_devices: bool = setting(
        False, "Start one worker for each GPU of this machine, and restart it when it dies."
    )
    threads: int | None = setting(
        None, "Threads of a native engine; by default the number that the coordinator gives."
    )
    architecture: str | None = setting(
        None,
        "If the run's network is FILE.py:FUNCTION: the path of the same file on this host; several "
        "are separated by commas.",
    )
    patience: float | None = setting(
        None, "Seconds to wait for a coordinator that is away; by default forever."
    )
    transport: TransportName = transport_setting()
    certificates: str | None = certificates_setting()
    allow_open_network: bool = open_network_setting()
    log_format: LogFormat = log_format_setting()
    chaos: str | None = setting(
        None, "Faults that the worker injects into itself: kill:20s,freeze:30s,seed=7."
    )

    def check(self) -> None:
        super().check()
        if self.chaos is not None:
            parse_chaos(self.chaos)
        with_hashes(self.architecture or "")
        self.check_at_least(1, "threads")
        self.check_at_least(0, "device", "patience")
        self.check_port(self.port, 0)
        if self.all_devices and self.device is not None:
            raise UserError("--device and --all_devices exclude each other; give one of them.")
