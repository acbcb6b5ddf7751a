"""Settings of `report` and `compare`."""

import dataclasses

from kipper.common.errors import UserError
from kipper.common.settings.field import Settings, required, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
    """Settings of `report`."""

    run: str = required(
        "Folder of a run; also as kipper report RUN.",
        "The folder of a run is missing: kipper report RUN.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """Settings of `compare`."""

    runs: tuple[str, ...] = required(
        "Folder of a run, given once for each run; also as kipper compare RUN RUN….",
        "The folders of runs are missing: kipper compare RUN RUN….",
    )
    output: str = setting("compare.png", "The figure to write, a PNG.")
    json: bool = setting(False, "Print JSON instead of a table.")

    def check(self) -> None:
        super().check()
        if not self.output.lower().endswith(".png"):
            raise UserError(f"--output is {self.output}; its name must end in .png.")
