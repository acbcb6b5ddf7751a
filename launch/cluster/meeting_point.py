"""coordinator.json tells workers under Slurm the coordinator's address, which may change.

It belongs to one launch, which has the number of the coordinator's job, so the file of an earlier
launch is ignored. Its writer holds the workdir's lock of launches.
"""

import dataclasses
import pathlib

from kipper.common.errors import UserError
from kipper.common.files import write_json
from kipper.common.sealed import parse_object

_OVER = "over"


@dataclasses.dataclass(frozen=True)
class Launch:
    """The content of the file.

    Attributes:
        coordinator_job, workers_job: Slurm's numbers of the two jobs.
        address: host:port of the coordinator; empty before it has started.
        is_over: whether the run is over.
    """

    coordinator_job: str
    workers_job: str
    address: str = ""

    @property
    def is_over(self) -> bool:
        return self.address == _OVER


def read_launch(workdir: str | pathlib.Path) -> Launch | None:
    """The last launch in a workdir; None if there was none under Slurm."""
    try:
        found = parse_object(_path(workdir).read_bytes())
    except (OSError, ValueError):
        return None  # a file may be missing for a moment on a shared file system
    match found:
        case {"launch": str(job), "workers": str(workers), "coordinator": str(address)}:
            return Launch(job, workers, address)
    return None


def _path(workdir: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(workdir) / "coordinator.json"


class MeetingPoint:
    """The file, as the jobs of one launch use it."""

    def __init__(self, workdir: str, coordinator_job: str):
        self._workdir = workdir
        self._job = coordinator_job

    def open(self, workers_job: str) -> None:
        """Announces the launch, whose coordinator has not started yet."""
        self._write(Launch(self._job, workers_job))

    def arrive(self, address: str) -> None:
        """Announces that the coordinator is at host:port.

        Raises:
            UserError: another launch uses the workdir, and its workers must not come here.
        """
        launch = self._read()
        if launch is None:
            raise UserError(f"Another launch uses {self._workdir}, so this one ends.")
        self._write(dataclasses.replace(launch, address=address))

    def close(self) -> None:
        """Announces that the run is over, unless another launch uses the workdir."""
        launch = self._read()
        if launch is not None:
            self._write(dataclasses.replace(launch, address=_OVER))

    def address(self) -> str | None:
        """The coordinator's host:port; None before it started and after the run."""
        launch = self._read()
        return launch.address or None if launch and not launch.is_over else None

    def is_over(self) -> bool:
        """Whether the run is over, or another launch uses the workdir."""
        launch = read_launch(self._workdir)
        return launch is not None and (launch.is_over or launch.coordinator_job != self._job)

    def _read(self) -> Launch | None:
        launch = read_launch(self._workdir)
        return launch if launch and launch.coordinator_job == self._job else None

    def _write(self, launch: Launch) -> None:
        record = {
            "launch": launch.coordinator_job,
            "workers": launch.workers_job,
            "coordinator": launch.address,
        }
        write_json(_path(self._workdir), record)
