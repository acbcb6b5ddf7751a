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
class ReplaySettings:
    """Settings of `replay`."""

    log: str = setting(None, "The logs/events.jsonl of a workdir.")
