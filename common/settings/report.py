"""Settings of `report` and `compare`, which tell of runs."""

import dataclasses

from kipper.common.errors import UserError
from kipper.common.settings.field import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Settings of `report`."""

    run: str = setting(None, "Folder of a run; kipper report RUN says the same.")

    def check(self) -> None:
        """Raises a UserError where no run is named."""
        if not self.run:
            raise UserError("The folder of a run is missing: kipper report RUN.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Settings of `compare`."""

    runs: tuple[str, ...] = setting(
        (), "Folder of a run, once for each; kipper compare RUN RUN… says the same."
    )
    output: str = setting("compare.png", "The figure to write, a PNG.")

    def check(self) -> None:
        """Raises a UserError where no run or another kind of file is named."""
        if not self.runs:
            raise UserError("The folders of runs are missing: kipper compare RUN RUN….")
        if not self.output.lower().endswith(".png"):
            raise UserError(f"--output is {self.output}; its name must end in .png.")
