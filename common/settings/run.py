"""Settings that every run has."""

import dataclasses
import math
import os
import pathlib
import re
from typing import Any

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.chaos import Chaos, parse_chaos
from kipper.common.engines import ENGINES
from kipper.common.errors import UserError
from kipper.common.network_file import is_network_file, with_hashes
from kipper.common.settings.field import (
    certificates_setting,
    check_at_least,
    check_choices,
    log_format_setting,
    open_network_setting,
    setting,
    transport_setting,
)

LAUNCHES = ("inprocess", "local_mt", "local_mp")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that `distill` and `solve_labels` share."""

    workdir: str = setting(None, "Folder for all results; the same command resumes it.", free=True)
    dataset: str = setting(
        None,
        "digits, mnist5k (embedded), mnist, fashion_mnist, cifar10, cifar100, svhn_cropped "
        "(files in --data_dir), npz:PATH, or folder:PATH[@SIZE], with images in PATH/CLASS or in "
        "PATH/train/CLASS and PATH/test/CLASS.",
    )
    data_dir: str | None = setting(None, "Folder of the data set's own files.", free=True)
    preprocess: str = setting(
        "standard",
        "Channel standardisation, or regularised ZCA (colour images).",
        ("standard", "zca"),
    )
    architecture: str = setting(
        "fc1",
        "fcK, convnet, convnetK, convnet_gap, convnetK_gap, myrtle5, myrtle7, myrtle10, conv_vecK "
        "or conv_gapK, each also with _leaky, _erf or _gelu for its ReLU; or a network of your "
        "own: FILE.py:FUNCTION.",
    )
    kernel: str = setting("ntk", "Tangent kernel, or NNGP covariance.", ("ntk", "nngp"))
    support_size: int = setting(10, "Support images in all; divisible by the number of classes.")
    ridge: float = setting(1e-6, "Regularisation, as a share of trace(K_ss) / support_size.")
    seed: int = setting(0, "Seed of the initial draw and of every target batch.")
    engine: str = setting("auto", "What evaluates kernel blocks; auto takes the fastest.", ENGINES)
    kernel_dtype: str = setting(
        "float32",
        "Precision of kernel blocks and support images; the regression is always float64.",
        ("float32", "float64"),
    )
    launch: str = setting(
        "inprocess",
        "Workers in this process, as threads under Launchpad, or as processes under Launchpad.",
        LAUNCHES,
        free=True,
    )
    num_workers: int = setting(
        2, "Workers to start; 0 with --port waits for workers from elsewhere.", free=True
    )
    threads: int | None = setting(
        None, "Threads of a native engine, each worker; cores / workers if not given.", free=True
    )
    port: int | None = setting(
        None,
        "Port where workers from elsewhere may join at any time: kipper worker "
        "--coordinator=HOST:PORT. None but this run's own can if not given.",
        free=True,
    )
    host: str | None = setting(
        None, "What other hosts call this one by; its host name if not given.", free=True
    )
    transport: str = transport_setting()
    certificates: str | None = certificates_setting()
    allow_open_network: bool = open_network_setting()
    block_support: int | None = setting(
        None, "Most support images in a kernel block; chosen from a memory budget if not given."
    )
    block_target: int | None = setting(
        None, "Most target images in a kernel block; chosen from a memory budget if not given."
    )
    verify_fraction: float = setting(
        0.01,
        "Share of kernel blocks that two workers compute and of which the answers are compared; 1 "
        "uses no number that two workers do not agree on.",
        free=True,
    )
    chaos: str | None = setting(
        None,
        "Faults for this run to inflict on its own workers, which change nothing in the result: "
        "kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7.",
        free=True,
    )
    dashboard: str = setting(
        "127.0.0.1:0",
        "Address HOST:PORT of the run's live page; port 0 takes a free one, none has no page.",
        free=True,
    )
    train_limit: int | None = setting(None, "Use only this many training images, by class.")
    test_limit: int | None = setting(None, "Use only this many test images, by class.")
    log_format: str = log_format_setting()
    overwrite: bool = setting(False, "Start afresh in a workdir that holds another run.", free=True)

    def check(self) -> None:
        """Refuses values that no data set could make right.

        Raises:
            UserError: one sentence naming the flag, the value and what would be right.
        """
        for required in ("workdir", "dataset"):
            if not getattr(self, required):
                raise UserError(f"--{required} is required.")
        check_choices(self)
        positive = ("support_size", "threads", "block_support", "block_target", "port")
        check_at_least(self, 1, (*positive, "train_limit", "test_limit"))
        if self.num_workers < 1 and (self.num_workers < 0 or self.port is None):
            raise UserError(
                f"--num_workers is {self.num_workers}; it must be 1 or more, or 0 with a --port "
                "where workers from elsewhere can join."
            )
        check_at_least(self, 0, ("seed",))
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise UserError(f"--ridge is {self.ridge}; it must be a finite number, 0 or more.")
        if not 0 <= self.verify_fraction <= 1:
            raise UserError(f"--verify_fraction is {self.verify_fraction}; it is from 0 to 1.")
        if self.verify_fraction == 1 and self.num_workers == 1 and self.port is None:
            raise UserError("--verify_fraction=1 needs two workers or more; give --num_workers=2.")
        self._check_chaos()
        _ = self.dashboard_address
        for name in self.architectures:
            architecture_named(name)

    @property
    def run_name(self) -> str:
        """What lines of logs call the run by: its folder's name; empty if it has none."""
        return pathlib.Path(self.workdir).resolve().name if self.workdir else ""

    @property
    def dashboard_address(self) -> tuple[str, int] | None:
        """Host, of IPv6 without its brackets, and port of the live page; None if there is none.

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
        """What `chaos` asks for; None if it is not given."""
        return parse_chaos(self.chaos) if self.chaos is not None else None

    def _check_chaos(self) -> None:
        chaos = self.faults or Chaos()
        if chaos.needs_processes and self.launch != "local_mp":
            raise UserError(
                "--chaos with kill or freeze attacks processes; give --launch=local_mp."
            )
        if chaos.lie and (self.verify_fraction < 1 or self.num_workers < 3):
            raise UserError(
                "--chaos with lie is only found out with --verify_fraction=1 and --num_workers=3 "
                "or more."
            )

    @property
    def threads_per_worker(self) -> int:
        """As given, or this machine's cores shared out among its workers; 0: all of each's own."""
        if self.threads is None and self.num_workers == 0:
            return 0
        return self.threads or max(1, (os.cpu_count() or 1) // self.num_workers)

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names of the architectures that the run is about; the first one scores."""
        return (self.architecture,)

    @property
    def kernel_specs(self) -> tuple[KernelSpec, ...]:
        """The kernel of each architecture."""
        return tuple(
            KernelSpec(architecture_named(name), self.kernel, self.kernel_dtype)
            for name in self.architectures
        )

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel that scores."""
        return self.kernel_specs[0]

    @property
    def own_networks(self) -> str | None:
        """Those of `architectures` that are files, with commas between; None if none is."""
        return ",".join(filter(is_network_file, self.architectures)) or None

    def record(self) -> dict[str, Any]:
        """All settings, for files; networks of the user's own with their hashes."""
        values = dataclasses.asdict(self)
        for name in ("architecture", "sample_architectures"):
            if values.get(name):
                values[name] = with_hashes(values[name])
        return values
