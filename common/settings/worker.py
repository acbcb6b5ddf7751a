"""Settings of a worker from outside the run's program."""

import dataclasses

from kipper.common.chaos import parse_chaos
from kipper.common.errors import UserError
from kipper.common.network_file import with_hashes
from kipper.common.settings.field import (
    certificates_setting,
    check_at_least,
    check_choices,
    log_format_setting,
    open_network_setting,
    setting,
    transport_setting,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Settings of `worker`: compute kernel blocks for a run's coordinator."""

    coordinator: str = setting(None, "HOST:PORT of the run to join.")
    port: int = setting(0, "Port to listen on; a free one if 0.")
    advertise_host: str | None = setting(
        None,
        "What the coordinator is to call this host by; its address on the way there if not given.",
    )
    name: str | None = setting(
        None,
        "Unique in the run, and the same after a restart; made of host and process if not given.",
    )
    device: int | None = setting(
        None, "Use one GPU of this machine alone, by number; all if not given."
    )
    all_devices: bool = setting(
        False, "Start one worker for each GPU of this machine, and again when one dies."
    )
    threads: int | None = setting(
        None, "Threads of a native engine; what the coordinator says if not given."
    )
    architecture: str | None = setting(
        None,
        "The run's network, if it is FILE.py:FUNCTION: the same file, where it lies here; several "
        "with commas between.",
    )
    patience: float | None = setting(
        None, "Seconds to wait for a coordinator that is away; for ever if not given."
    )
    transport: str = transport_setting()
    certificates: str | None = certificates_setting()
    allow_open_network: bool = open_network_setting()
    log_format: str = log_format_setting()
    chaos: str | None = setting(None, "Faults to inflict on itself: kill:20s,freeze:30s,seed=7.")

    def check(self) -> None:
        """Refuses values that no coordinator could make right.

        Raises:
            UserError: one sentence naming the flag, the value and what would be right.
        """
        if not self.coordinator:
            raise UserError("--coordinator is required: the HOST:PORT of the run to join.")
        if self.chaos is not None:
            parse_chaos(self.chaos)
        with_hashes(self.architecture or "")
        check_choices(self)
        check_at_least(self, 1, ("threads",))
        check_at_least(self, 0, ("port", "device", "patience"))
        if self.all_devices and self.device is not None:
            raise UserError("--device and --all_devices exclude each other; give one of them.")
