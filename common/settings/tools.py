"""Settings of the small commands around runs."""

import dataclasses
import math
import re
from typing import Literal

from kipper.common.architecture import architecture_named
from kipper.common.engines import ENGINES
from kipper.common.errors import UserError
from kipper.common.settings.field import Kernel, KernelDtype, Settings, required, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class CertificatesSettings(Settings):
    """Settings of `certificates`."""

    folder: str = required(
        "Folder to make; also as kipper certificates FOLDER.",
        "The folder to make is missing: kipper certificates FOLDER.",
    )
    hosts: str = setting(
        "", "Addresses or names of hosts, separated by commas; Ray's TLS checks them."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatusSettings(Settings):
    """Settings of `status`."""

    run: str = required(
        "Folder of a run; also as kipper status RUN.",
        "The folder of a run is missing: kipper status RUN.",
    )
    json: bool = setting(False, "Print JSON.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListSettings(Settings):
    """Settings of `list`."""

    folder: str = setting(".", "Folder to search for runs; also as kipper list FOLDER.")
    json: bool = setting(False, "Print JSON: an array with an object for each run.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorSettings(Settings):
    """Settings of `doctor`."""

    folder: str = setting(".", "Folder where you want to keep runs.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplaySettings(Settings):
    """Settings of `replay`."""

    log: str = required(
        "Folder of a run, or its logs/events.jsonl; also as kipper replay RUN.",
        "--log is required: the folder of a run, or its logs/events.jsonl.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionSettings(Settings):
    """Settings of `completion`."""

    shell: Literal["bash", "zsh", "fish"] = required(
        "The shell; also as kipper completion bash.",
        "The shell is missing: kipper completion bash.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EstimateSettings(Settings):
    """Settings of `bench` besides those of the run whose cost it estimates."""

    json: bool = setting(False, "Print JSON.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DryRunSettings(Settings):
    """A setting of `distill` and `solve_labels` besides those of the run."""

    dry_run: bool = setting(
        False, "Estimate the run's time, memory and disk space; start and write nothing."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchSettings(Settings):
    """Settings of `bench` without a run."""

    architecture: str = setting("convnet", "As for distill.")
    kernel: Kernel = setting("ntk", "Neural tangent kernel, or NNGP covariance.")
    kernel_dtype: KernelDtype = setting("float32", "Precision of the kernel.")
    engine: str = setting("auto", "The engine to measure; auto: all that run here.", ENGINES)
    dataset: str | None = setting(None, "Use the images of a data set, named as for distill.")
    data_dir: str | None = setting(None, "Folder of the data set's original files.")
    image_shape: str = setting("28x28x1", "Shape of random images, used without --dataset.")
    threads: int | None = setting(None, "Threads of a native engine; by default all cores.")
    seconds: float = setting(20.0, "Minimum time to measure, over all engines.")
    json: bool = setting(False, "Print JSON.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of `image_shape`; see `check`."""
        height, width, channels = map(int, self.image_shape.split("x"))
        return height, width, channels

    def check(self) -> None:
        super().check()
        self.check_at_least(1, "threads")
        if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}x[1-9]\d{0,2}", self.image_shape):
            raise UserError(
                f"--image_shape is {self.image_shape!r}; it must be HEIGHTxWIDTHxCHANNELS, such "
                "as 32x32x3."
            )
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UserError(f"--seconds is {self.seconds}; it must be a finite number above 0.")
        architecture_named(self.architecture)
