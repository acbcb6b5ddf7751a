"""The folder of a run: the names of its files, its lock, and whether a run may resume in it."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from kipper.common.errors import UserError
from kipper.common.file_lock import Taken, holder_of, locked
from kipper.common.files import write_json, write_text
from kipper.common.network_file import without_hashes
from kipper.common.process_identity import ProcessIdentity
from kipper.common.settings import RunSettings, free_names, run_fields
from kipper.server.records import Config, Evaluation, Json, RunResult, Validation

# Locks beside that of the coordinator: of the process that starts the run on this host, and of the
# command that starts it on many.
_CLAIM, _LAUNCH = ".start.lock", ".launch.lock"
# A coordinator dies a moment after the process that started it; and others look at the lock.
_PATIENCE_SECONDS = 1.0


class Workdir:
    """Paths inside a run's folder, and the records kept there."""

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.spectrum = self.path / "spectrum.jsonl"  # eigenvalues of K_ss
        self.validation = self.path / "validation.jsonl"
        self.result = self.path / "result.json"
        self.status = self.path / "status.json"
        self.distilled = self.path / "distilled.npz"
        self.best = self.path / "best.npz"
        self.preprocessing = self.path / "preprocessing.npz"
        self.natural = self.path / "natural.npz"  # images that were drawn, and targets
        self.neighbours = self.path / "neighbours.npz"  # nearest training images
        self.environment = self.path / "environment.json"
        self.report = self.path / "report.html"
        self.checkpoints = self.path / "checkpoints"
        self.figures = self.path / "figures"
        self.tensorboard = self.path / "tensorboard"
        self.logs = self.path / "logs"
        self.failure = self.logs / "failure.txt"  # why the launcher gave up on a process
        self.going_back = self.path / ".going_back.json"  # while later steps are removed
        self._lock = self.path / ".lock"

    def prepare(self, settings: RunSettings, data_hash: str) -> None:
        """Prepares the folder for a run with `settings`, new or resumed.

        Raises:
            UserError: it cannot be written, or holds a run with other settings or other data.
        """
        self._make_folders()
        config = Config(type(settings.compute).__name__, settings.record(), data_hash)
        if settings.execution.overwrite:
            with self.locked():
                self._remove_run()
        else:
            self._check_resumable(config, settings)
        self._make_folders()
        write_json(self.config, config.record())

    def check(self, settings: RunSettings, data_hash: str) -> None:
        """Raises the errors of `prepare` that can be found without writing."""
        existing = next(path for path in (self.path, *self.path.resolve().parents) if path.exists())
        if not (existing.is_dir() and os.access(existing, os.W_OK)):
            raise UserError(
                f"The workdir {self.path} cannot be written: you may not create files in "
                f"{existing}; give another --workdir."
            )
        if not settings.execution.overwrite:
            config = Config(type(settings.compute).__name__, settings.record(), data_hash)
            self._check_resumable(config, settings)

    def make_logs(self) -> None:
        """Creates the folder of logs before the coordinator does; raises a UserError on failure."""
        with self._writing():
            self.logs.mkdir(parents=True, exist_ok=True)

    def forget_outcome(self) -> None:
        """Removes the outcome of the last coordinator before the next one starts."""
        for path in (self.status, self.failure):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the folder for one coordinator; the lock ends with the process.

        Raises:
            UserError: another process holds it, or the folder cannot be written.
        """
        with self._holding(self._lock):
            yield

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps the folder for the run that this process starts, in whichever processes.

        Enter this before anything in the folder is read for writing, changed or removed. The
        coordinator, which may be another process and outlive this one for a moment, holds `locked`.

        Raises:
            UserError: another process holds it, or the folder cannot be written.
        """
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
        with self._holding(self.path / _CLAIM):
            with self.locked():
                pass
            yield

    @contextlib.contextmanager
    def launched(self) -> Iterator[None]:
        """Keeps the folder for the command that starts a run on many hosts.

        `claimed` is for the coordinator's host, which may share the folder.

        Raises:
            UserError: another process holds it, or the folder cannot be written.
        """
        self.check_free()
        self.make_logs()
        with self._holding(self.path / _LAUNCH):
            yield

    def check_free(self) -> None:
        """Checks, and changes nothing, that no process has claimed or locked the folder.

        Raises:
            UserError: naming the process.
        """
        for path in (self.path / _CLAIM, self._lock):
            if path.is_file() and os.access(path, os.W_OK):
                with self._holding(path):
                    pass

    def coordinator(self) -> ProcessIdentity | None:
        """The process that holds `locked`, or held it when it died."""
        return holder_of(self._lock)

    @contextlib.contextmanager
    def _holding(self, path: pathlib.Path) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                with self._writing():
                    stack.enter_context(locked(path, _PATIENCE_SECONDS))
            except Taken as taken:
                who = f" ({taken.holder})" if taken.holder else ""
                raise UserError(
                    f"Another kipper process{who} is working in {self.path}; wait for it to end, "
                    "or give another --workdir."
                ) from taken
            yield

    def is_locked(self) -> bool:
        """Whether a process of this machine holds the lock, found without touching it."""
        try:
            inode = os.stat(self._lock).st_ino
            locks = pathlib.Path("/proc/locks").read_text().splitlines()
        except OSError:
            return False
        # "1: FLOCK ADVISORY WRITE pid major:minor:inode start end"; containers
        # have other device numbers.
        held = (line.split() for line in locks if " FLOCK " in line)
        return any(int(words[5].rpartition(":")[2]) == inode for words in held if words[1] != "->")

    def read_records(self, path: pathlib.Path) -> list[Json]:
        """The records of a .jsonl file, without a last line that a crash cut short."""
        records = []
        if path.exists():
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    records.append(json.loads(line))
        return records

    def read_config(self) -> Config:
        """config.json; raises an OSError, ValueError or TypeError if it cannot be read."""
        return Config.read(json.loads(self.config.read_text()))

    def evaluations(self) -> list[Evaluation]:
        """The lines of metrics.jsonl."""
        return [Evaluation.read(record) for record in self.read_records(self.metrics)]

    def validations(self) -> list[Validation]:
        """The lines of validation.jsonl."""
        return [Validation.read(record) for record in self.read_records(self.validation)]

    def read_result(self) -> RunResult | None:
        """result.json; None while the run has none that can be read."""
        try:
            return RunResult.read(json.loads(self.result.read_text()))
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def append_record(self, path: pathlib.Path, record: Json) -> None:
        """Adds a line and flushes it to disk, after ending a line that a crash cut short."""
        with open(path, "ab+") as file:
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def drop_records_from(self, path: pathlib.Path, step: int) -> None:
        """Drops records of `step` and later, which a resumed run will repeat."""
        kept = [record for record in self.read_records(path) if record["step"] < step]
        if path.exists():
            write_text(path, "".join(json.dumps(record) + "\n" for record in kept))

    def _make_folders(self) -> None:
        with self._writing():
            for folder in (self.path, self.checkpoints, self.figures, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock.touch()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"The workdir {self.path} cannot be written ({error.strerror}); give a --workdir "
                "where you may create files."
            ) from error

    def _check_resumable(self, config: Config, settings: RunSettings) -> None:
        """Raises a UserError if the folder holds a run that the settings cannot resume."""
        if not self.config.exists():
            if not (self.checkpoints.exists() and any(self.checkpoints.iterdir())):
                return
            raise UserError(
                f"{self.path} has checkpoints but no config.json, so they cannot be resumed; give "
                "another --workdir, or --overwrite to start afresh."
            )
        try:
            before = self.read_config()
            # An older version without some setting behaved as its default does now.
            defaults = {field.name: field.default for field in run_fields(type(settings.compute))}
            old = {**defaults, **before.settings, "command": before.command}
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.config} is not a kipper configuration; give another --workdir, or "
                "--overwrite to start afresh."
            ) from error
        free = free_names(type(settings.compute))
        new = {**config.settings, "command": config.command}
        changed = [name for name in new if name not in free and old.get(name) != new[name]]
        if changed:
            listed = ", ".join(_change(name, old.get(name), new[name]) for name in changed)
            raise UserError(
                f"{self.path} holds a run with other settings ({listed}); give them as before to "
                "resume it, another --workdir, or --overwrite to start afresh."
            )
        if before.data_hash != config.data_hash:
            raise UserError(
                f"{self.path} holds a run on other data: the files of data set "
                f"{settings.compute.dataset!r} have changed since; restore them, give another "
                "--workdir, or --overwrite to start afresh."
            )

    def _remove_run(self) -> None:
        """Removes the files that kipper wrote, and no others."""
        of_older_versions = self.path / "dashboard.html"
        for path in (*vars(self).values(), of_older_versions):
            if path.is_file() and path != self._lock:
                path.unlink()
        for folder in (self.checkpoints, self.figures, self.tensorboard, self.logs):
            shutil.rmtree(folder, ignore_errors=True)


def _change(name: str, before: Any, now: Any) -> str:
    """The change of a setting, in a few words."""
    texts = isinstance(before, str) and isinstance(now, str)
    if texts and without_hashes(before) == without_hashes(now):
        return f"the file of {name} {without_hashes(now)} has changed"
    return f"{name} was {before!r} and is {now!r}"
