"""Settings that decide how a run is carried out: workers, network, logs, live page."""

import dataclasses
import pathlib
import re
from typing import Literal

from kipper.common.chaos import Chaos, parse_chaos
from kipper.common.cores import usable_cores
from kipper.common.errors import UserError
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

Launch = Literal["inprocess", "local_mt", "local_mp", "ray"]
RayDevice = Literal["auto", "gpu", "cpu"]
WorkerCount = int | Literal["all"]
LOCAL_RAY = "local"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutionSettings(Settings):
    """How a run is carried out; all of it may change on resume.

    Nothing here affects results, except that `mixed_numerics` lets them depend on which
    worker computes.
    """

    workdir: str = required("Folder for all results; the same command resumes the run in it.")
    data_dir: str | None = setting(None, "Folder of the data set's original files.")
    launch: Launch = setting(
        "inprocess",
        "Run workers in this process, as threads or processes of Launchpad, or as actors of Ray.",
    )
    ray_address: str = setting(
        LOCAL_RAY,
        "Ray: the cluster whose nodes the workers run on: local starts one on this machine for the "
        "time of the run; auto, HOST:PORT or ray://HOST:PORT is one that runs already.",
    )
    ray_device: RayDevice = setting(
        "auto",
        "Ray: one worker for each GPU, or workers that take CPUs alone; auto takes GPUs if the "
        "cluster has any.",
    )
    num_workers: WorkerCount = setting(
        2,
        "Number of workers to start; 0 with --port waits for external workers; all, on Ray, is as "
        "many as the cluster has room for at any time.",
    )
    threads: int | None = setting(
        None, "Threads of a native engine in each worker; by default cores / workers."
    )
    port: int | None = setting(
        None,
        "Port where external workers may join at any time: kipper worker --coordinator=HOST:PORT. "
        "By default no external workers may join.",
    )
    host: str | None = setting(
        None, "Name or address of this host for other hosts; by default its host name."
    )
    transport: TransportName = transport_setting()
    certificates: str | None = certificates_setting()
    allow_open_network: bool = open_network_setting()
    verify_fraction: float = setting(
        0.01,
        "Share of kernel blocks that a second worker recomputes and compares; with 1, every number "
        "used has been confirmed by two workers.",
    )
    mixed_numerics: bool = setting(
        False,
        "Let workers and coordinators take part although their arithmetic differs from that with "
        "which the run began: the result's bits then depend on which worker computed what, and "
        "verification compares unlike workers within rounding.",
    )
    chaos: str | None = setting(
        None,
        "Faults that the run injects into its own workers, without effect on results (for lies, "
        "this is certain only with --verify_fraction=1): "
        "kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7.",
    )
    dashboard: str = setting(
        "127.0.0.1:0",
        "Address HOST:PORT of the run's live page; port 0 takes a free port, none disables the "
        "page. At addresses that other machines can reach, the page needs the token in the URL "
        "that the run prints.",
    )
    dashboard_open: bool = setting(
        False, "Show the live page to anyone who can reach its address, without a token."
    )
    log_format: LogFormat = log_format_setting()
    overwrite: bool = setting(False, "Remove the run that the workdir holds, and start afresh.")

    def check(self) -> None:
        super().check()
        self.check_at_least(1, "threads")
        self.check_port(self.port, 1)
        self._check_workers()
        if not 0 <= self.verify_fraction <= 1:
            raise UserError(f"--verify_fraction is {self.verify_fraction}; it must be from 0 to 1.")
        if self.verify_fraction == 1 and self.num_workers == 1 and self.port is None:
            raise UserError("--verify_fraction=1 needs two workers or more; give --num_workers=2.")
        self._check_chaos()
        _ = self.dashboard_address

    def _check_workers(self) -> None:
        if self.num_workers == "all":
            if self.launch != "ray":
                raise UserError(
                    "--num_workers=all is for --launch=ray, where it means as many as the cluster "
                    "has room for; give a number."
                )
        elif self.num_workers < 1 and (self.num_workers < 0 or self.port is None):
            raise UserError(
                f"--num_workers is {self.num_workers}; it must be 1 or more, or 0 with a --port "
                "where external workers can join."
            )
        if self.ray_address != LOCAL_RAY and self.launch != "ray":
            raise UserError(
                f"--ray_address={self.ray_address} is for --launch=ray; give that, or leave the "
                "address out."
            )

    def _check_chaos(self) -> None:
        chaos = self.faults or Chaos()
        if chaos.needs_processes and self.launch not in ("local_mp", "ray"):
            raise UserError(
                "--chaos with kill or freeze needs worker processes; give --launch=local_mp or "
                "--launch=ray."
            )
        if chaos.lie and (self.verify_fraction == 0 or self.fixed_workers < 3):
            raise UserError(
                "--chaos with lie is only detected with a --verify_fraction above 0 and "
                "--num_workers=3 or more."
            )

    @property
    def run_name(self) -> str:
        """The run's name in logs: that of its folder."""
        return pathlib.Path(self.workdir).resolve().name

    @property
    def dashboard_address(self) -> tuple[str, int] | None:
        """Host (IPv6 without brackets) and port of the live page; None if it is disabled.

        Raises:
            UserError: `dashboard` is something else.
        """
        if self.dashboard == "none":
            return None
        match = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", self.dashboard, re.ASCII)
        if match is None or int(match[2]) >= 2**16:
            raise UserError(
                f"--dashboard is {self.dashboard!r}; it must be HOST:PORT, such as 127.0.0.1:8080, "
                "or none."
            )
        return match[1].strip("[]"), int(match[2])

    @property
    def faults(self) -> Chaos | None:
        """The faults of `chaos`; None if it is not given."""
        return parse_chaos(self.chaos) if self.chaos is not None else None

    @property
    def threads_per_worker(self) -> int:
        """`threads`, or the cores that this process may use divided by its workers.

        0 if the number of workers is not fixed: each then uses all of its cores.
        """
        if self.threads is None and self.fixed_workers == 0:
            return 0
        return self.threads or max(1, usable_cores() // self.fixed_workers)

    @property
    def has_workers_here(self) -> bool:
        """Whether workers of the run certainly compute on this machine."""
        elsewhere = self.launch == "ray" and self.ray_address != LOCAL_RAY
        return self.num_workers != 0 and not elsewhere

    @property
    def fixed_workers(self) -> int:
        """The number of workers that the run starts; 0 if others alone compute, or `all` do."""
        return 0 if self.num_workers == "all" else self.num_workers
