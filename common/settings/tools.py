"""Settings of the small commands around a run."""

import dataclasses

from kipper.common.errors import UserError
from kipper.common.settings.field import setting


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
