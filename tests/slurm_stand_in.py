"""Stand-ins for Slurm's commands, which record how they are called."""

import pathlib
import stat

import pytest

NAMES = ("sbatch", "squeue", "scontrol", "scancel")


class SlurmStandIn:
    """Commands on the path that append their arguments to a file; some also run a script."""

    def __init__(
        self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, **scripts: str
    ) -> None:
        self._calls = folder / "calls"
        for name in NAMES:
            path = folder / name
            script = scripts.get(name, "")
            path.write_text(f'#!/bin/sh\necho {name} "$@" >> {self._calls}\n{script}\n')
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []
