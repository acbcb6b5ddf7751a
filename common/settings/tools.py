"""Settings of the small commands around a run."""

import dataclasses
import math
import re

from kipper.common.architecture import architecture_named
from kipper.common.engines import ENGINES
from kipper.common.errors import UserError
from kipper.common.settings.field import check_at_least, check_choices, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class CertificatesSettings:
    """Settings of `certificates`."""

    folder: str = setting(None, "Folder to make; kipper certificates FOLDER says the same.")

    def check(self) -> None:
        """Raises a UserError where no folder is named."""
        if not self.folder:
            raise UserError("The folder to make is missing: kipper certificates FOLDER.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatusSettings:
    """Settings of `status`."""

    run: str = setting(None, "Folder of a run; kipper status RUN says the same.")

    def check(self) -> None:
        """Raises a UserError where no run is named."""
        if not self.run:
            raise UserError("The folder of a run is missing: kipper status RUN.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListSettings:
    """Settings of `list`."""

    folder: str = setting(".", "Where to look for runs; kipper list FOLDER says the same.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """Settings of `doctor`."""

    folder: str = setting(".", "Where runs are to be kept.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """Settings of `replay`."""

    log: str = setting(None, "The logs/events.jsonl of a workdir.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionSettings:
    """Settings of `completion`."""

    shell: str = setting(None, "kipper completion bash says the same.", ("bash",))

    def check(self) -> None:
        """Raises a UserError where no shell is named, or one that is not known."""
        if self.shell is None:
            raise UserError("The shell is missing: kipper completion bash.")
        check_choices(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EstimateSettings:
    """Settings of `bench` beside those of the run that it estimates."""

    json: bool = setting(False, "Print JSON.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DryRunSettings:
    """A setting of the commands that run, beside those of the run."""

    dry_run: bool = setting(
        False, "Say what time, memory and disk the run would take; start and write nothing."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Settings of `bench` by itself."""

    architecture: str = setting("convnet", "As for distill.")
    kernel: str = setting("ntk", "Tangent kernel, or NNGP covariance.", ("ntk", "nngp"))
    kernel_dtype: str = setting("float32", "Precision of the kernel.", ("float32", "float64"))
    engine: str = setting("auto", "One engine; auto measures all that can run here.", ENGINES)
    dataset: str | None = setting(None, "Take the images of a data set, as for distill.")
    data_dir: str | None = setting(None, "Folder of the data set's own files.")
    image_shape: str = setting("28x28x1", "Of random images, where no data set is given.")
    threads: int | None = setting(None, "Threads of a native engine; all cores if not given.")
    seconds: float = setting(20.0, "How long to measure, all engines together, at the least.")
    json: bool = setting(False, "Print JSON.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of `image_shape`; see `check`."""
        height, width, channels = map(int, self.image_shape.split("x"))
        return height, width, channels

    def check(self) -> None:
        """Refuses values that no machine could make right.

        Raises:
            UserError: one sentence naming the flag, the value and what would be right.
        """
        check_choices(self)
        check_at_least(self, 1, ("threads",))
        if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}x[1-9]\d{0,2}", self.image_shape):
            raise UserError(
                f"--image_shape is {self.image_shape!r}; it must be HEIGHTxWIDTHxCHANNELS, such "
                "as 32x32x3."
            )
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UserError(f"--seconds is {self.seconds}; it must be a finite number above 0.")
        architecture_named(self.architecture)
