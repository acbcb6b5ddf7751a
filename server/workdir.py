"""The folder of a run: the names of its files, its lock, and whether a run may resume in it."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import logging

from kipper.common.errors import UserError, WriteError
from kipper.common.file_lock import Taken, holder_of, locked
from kipper.common.files import not_following, set_aside
from kipper.common.network_file import without_hashes
from kipper.common.process_identity import ProcessIdentity
from kipper.common.sealed import ChecksumError, read_object, write_object
from kipper.common.settings import RunSettings, free_names, run_fields
from kipper.server.algorithms import algorithm_of, command_named
from kipper.server.checkpoint import configs_in, is_intact, numerics_before, steps_in
from kipper.server.record_files import RecordFile
from kipper.server.records import (
    Config,
    Evaluation,
    Facts,
    Json,
    RunResult,
    Spectrum,
    Validation,
    read_facts,
)
from kipper.server.run_numerics import check_coordinator, own_arithmetic

# What a run writes into its folder, as patterns of paths: all that --overwrite may remove.
FIGURES = ("distilled", "labels", "curve", "spectrum", "timeline")
_OBJECTS = ("config.json", "result.json", "status.json", "environment.json")
_LINES = ("metrics.jsonl", "validation.jsonl", "spectrum.jsonl")
WRITTEN = (
    *_OBJECTS,
    *_LINES,
    *(f"{name}.damaged*" for name in (*_OBJECTS, *_LINES)),
    *("bans.json", "bans.json.damaged*", "disputes.json", "disputes.json.damaged*"),
    *("distilled.npz", "best.npz", "preprocessing.npz", "natural.npz", "neighbours.npz"),
    *(f"{name}.npz.damaged*" for name in ("best", "preprocessing")),
    "report.html",
    "dashboard.html",  # of earlier versions
    "coordinator.json",
    ".going_back.json",
    ".*.json.[0-9]*.tmp",
    ".*.npz.[0-9]*.tmp",
    "checkpoints/step-[0-9]*",
    "checkpoints/step-[0-9]*/state.npz",
    "checkpoints/step-[0-9]*/manifest.json",
    "checkpoints/.step-[0-9]*.tmp/*",
    *(f"figures/{name}.png" for name in FIGURES),
    "tensorboard/events.out.tfevents.*",
    *(f"logs/{name}" for name in ("run.log", "events.jsonl", "events.jsonl.1", "failure.txt")),
    *("logs/launchpad.log", "logs/quarantine-*.npz"),
    *(f"logs/{node}-[0-9]*.log" for node in ("coordinator", "evaluator", "snapshots", "worker")),
    *(f"logs/{node}/[0-9]*" for node in ("coordinator", "evaluator", "snapshots", "worker")),
)
# These may be there before the run is.
_BEFORE_A_RUN = ("config.json", "coordinator.json", "logs/")
_NAMED = 5  # files in a sentence
FOLDERS = ("checkpoints", "figures", "tensorboard", "logs")

# Locks beside that of the coordinator: of the process that starts the run on this host, and of the
# command that starts it on many.
_CLAIM, _LAUNCH = ".start.lock", ".launch.lock"
_LOCKS = {".lock", _CLAIM, _LAUNCH}
# How long to wait for a lock: a coordinator dies a moment after the process that started it, and
# other processes test the lock.
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
        self.bans = self.path / "bans.json"  # workers that computed wrong numbers
        self.disputes = self.path / "disputes.json"  # while they are open
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
            UserError: it cannot be written, contains links in place of a run's files, holds a run
                with other settings or other data, or files that are not kipper's.
        """
        self._refuse_links()
        self._make_folders()
        config = Config(type(settings.compute).__name__, settings.record(), data_hash)
        if settings.execution.overwrite:
            with self.locked():
                self._remove_run()
        else:
            self._check_resumable(config, settings)
        self._make_folders()
        with self._writing():
            write_object(self.config, config.record())

    def check(self, settings: RunSettings, data_hash: str) -> None:
        """Raises the errors of `prepare` that can be found without writing."""
        existing = next(path for path in (self.path, *self.path.resolve().parents) if path.exists())
        if not (existing.is_dir() and os.access(existing, os.W_OK)):
            raise UserError(
                f"The workdir {self.path} cannot be written: you may not create files in "
                f"{existing}; give another --workdir."
            )
        self._refuse_links()
        if settings.execution.overwrite:
            self._check_removable()
        else:
            config = Config(type(settings.compute).__name__, settings.record(), data_hash)
            self._check_resumable(config, settings)

    def make_logs(self) -> None:
        """Creates the folder of logs before the coordinator does; raises a UserError on failure."""
        with self._writing():
            self.logs.mkdir(parents=True, exist_ok=True)

    def forget_outcome(self) -> None:
        """Removes the outcome of the last coordinator before the next one starts."""
        for path in (self.status, self.failure):
            if path.is_dir():
                set_aside(path)
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
        """Reserves the folder for the run that this process starts, in this process or others.

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
        """Reserves the folder for the command that starts a run on many hosts.

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
        return _is_held(self._lock)

    def is_launched(self) -> bool:
        """Whether a process of this machine holds `launched`, found without touching it."""
        return _is_held(self.path / _LAUNCH)

    def mend(self) -> None:
        """Moves damaged small files, or their damaged lines, out of the way, with warnings.

        Nothing is deleted: damaged lines and files get the names NAME.damaged. Only the process
        that holds the lock may call this.
        """
        for path in self._kinds:
            self._records_in(path).mend()
        for name in WRITTEN:
            path = self.path / name
            if path.is_dir() and path.suffix and not path.is_symlink():
                logging.warning("%s is a folder; it is now %s.", path, set_aside(path))
        for path, kind in (
            (self.result, RunResult),
            (self.status, Facts),
            (self.environment, Facts),
        ):
            if path.exists() and read_facts(path, kind) is None:
                logging.warning("%s is now %s.", path, set_aside(path))

    def read_records(self, path: pathlib.Path) -> list[Json]:
        """The records of a .jsonl file; damaged lines are left out, with a warning."""
        return self._records_in(path).read(is_growing=self.is_locked)

    def read_config(self) -> Config:
        """config.json; warns if it was changed since kipper wrote it.

        Raises:
            OSError, TypeError, ValueError: it cannot be read.
        """
        try:
            return Config.read(read_object(self.config))
        except ChecksumError as error:
            logging.warning("%s has been changed since kipper wrote it.", self.config)
            return Config.read(error.record)

    def evaluations(self) -> list[Evaluation]:
        """The lines of metrics.jsonl."""
        return [Evaluation.read(record) for record in self.read_records(self.metrics)]

    def validations(self) -> list[Validation]:
        """The lines of validation.jsonl."""
        return [Validation.read(record) for record in self.read_records(self.validation)]

    def read_result(self) -> RunResult | None:
        """result.json; None while the run has none that can be read."""
        return read_facts(self.result, RunResult)

    def append_record(self, path: pathlib.Path, record: Json) -> None:
        """Adds a line and flushes it to disk, after ending a line that a crash cut short.

        Raises:
            OSError: the file cannot be written, and is as it was.
        """
        self._records_in(path).append(record)

    def drop_records_from(self, path: pathlib.Path, step: int) -> None:
        """Drops records of `step` and later, which a resumed run will repeat."""
        self._records_in(path).mend(keep=lambda record: record["step"] < step)

    @property
    def _kinds(self) -> dict[pathlib.Path, type[Facts]]:
        """The class of each line of a .jsonl file."""
        return {
            self.metrics: Evaluation,
            self.validation: Validation,
            self.spectrum: Spectrum,
        }

    def _records_in(self, path: pathlib.Path) -> RecordFile:
        return RecordFile(path, self._kinds.get(path))

    def _make_folders(self) -> None:
        with self._writing():
            for folder in (self.path, self.checkpoints, self.figures, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            if not self._lock.exists():
                open(self._lock, "a", opener=not_following).close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except WriteError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # it may pass, as for any file
                raise WriteError(self.path, error) from error
            raise UserError(
                f"The workdir {self.path} cannot be written ({error.strerror}); give a --workdir "
                "where you may create files."
            ) from error

    def _check_resumable(self, config: Config, settings: RunSettings) -> None:
        """Raises a UserError if the folder holds a run that the settings cannot resume."""
        if not self.config.exists():
            self._refuse_to_write_over("no config.json")
            return
        try:
            before = self.read_config()
            changed = _changes(before, config, settings)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.config} is not a kipper configuration; give another --workdir, or "
                "--overwrite to start afresh."
            ) from error
        if changed:
            raise UserError(
                f"{self.path} holds a run with other settings ({changed}); give them as before to "
                "resume it, another --workdir, or --overwrite to start afresh."
            )
        if before.data_hash != config.data_hash:
            raise UserError(
                f"{self.path} holds a run on other data: the files of data set "
                f"{settings.compute.dataset!r} have changed since; restore them, give another "
                "--workdir, or --overwrite to start afresh."
            )
        self._check_checkpoints(config, settings)
        self._check_steps(settings)
        check_coordinator(
            numerics_before(self.checkpoints),
            own_arithmetic(),
            settings.execution.mixed_numerics,
            str(self.path),
        )

    def _check_checkpoints(self, config: Config, settings: RunSettings) -> None:
        """Raises a UserError for a checkpoint that was copied here from another run."""
        for path, found in configs_in(self.checkpoints):
            changed = _changes(found, config, settings)
            if changed or found.data_hash != config.data_hash:
                raise UserError(
                    f"{path} is a checkpoint of another run ({changed or 'on other data'}), from "
                    "which this one cannot go on; remove it, or give another --workdir."
                )

    def _check_steps(self, settings: RunSettings) -> None:
        """Raises a UserError if the run has made more steps than the settings ask for."""
        steps = algorithm_of(settings.compute).steps
        if steps is None:
            return
        later = [step for step in steps_in(self.checkpoints) if step > steps]
        made = next((s for s in reversed(later) if is_intact(self.checkpoints, s)), None)
        if made is not None:
            raise UserError(
                f"--steps is {steps}, but the run in {self.path} has made {made} steps already; "
                f"give --steps={made} or more, another --workdir, or --overwrite to start afresh."
            )

    def _refuse_to_write_over(self, lacks: str) -> None:
        """Raises a UserError for files that a run would replace, in a folder without a run."""
        theirs = [name for name in self._present() if not name.startswith(_BEFORE_A_RUN)]
        if theirs:
            raise UserError(
                f"{self.path} holds {_listed(theirs)} but {lacks}, so kipper cannot tell whether "
                "it wrote them, and neither resumes nor removes them; give another --workdir."
            )

    def _check_removable(self) -> bool:
        """Whether the folder holds a run, which may be removed.

        Raises:
            UserError: it holds files that a run would replace and that may belong to something
                else.
        """
        try:
            config = self.read_config()
        except FileNotFoundError:
            self._refuse_to_write_over("no config.json")
            return False
        except (OSError, TypeError, ValueError):
            self._refuse_to_write_over("a config.json that is not kipper's")
            return False
        if "dataset" not in config.settings:
            self._refuse_to_write_over("a config.json that is not kipper's")
            return False
        return True

    def _remove_run(self) -> None:
        """Removes the files that kipper wrote; others are left and named in a warning."""
        if self._check_removable():
            for name in self._present():
                path = self.path / name
                if not path.is_dir():
                    path.unlink()
            for folder in sorted(self._folders(), reverse=True):  # the inner ones first
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()
        elif self.config.exists():
            logging.warning("%s is now %s.", self.config, set_aside(self.config))
        found = (path for path in self.path.rglob("*") if path.is_symlink() or not path.is_dir())
        left = sorted({str(path.relative_to(self.path)) for path in found} - _LOCKS)
        if left:
            logging.warning(
                "--overwrite left %s in %s, which kipper did not write.", _listed(left), self.path
            )

    def _present(self) -> list[str]:
        """The paths of `WRITTEN` that exist, also as links, but not those behind links."""
        found: dict[str, None] = {}
        for pattern in WRITTEN:
            for path in [self.path / pattern, *self.path.glob(pattern)]:
                inner = path.relative_to(self.path)
                behind = any((self.path / parent).is_symlink() for parent in inner.parents[:-1])
                if (path.exists() or path.is_symlink()) and not behind:
                    found[str(inner)] = None
        return [*found]

    def _folders(self) -> list[pathlib.Path]:
        """The folders that kipper makes, and those in them."""
        return [
            path
            for name in FOLDERS
            for path in [self.path / name, *(self.path / name).glob("*")]
            if path.is_dir() and not path.is_symlink()
        ]

    def _refuse_links(self) -> None:
        """Raises a UserError for a link where a run writes; its target may not be the run's."""
        for name in (*FOLDERS, *_LOCKS, *self._present()):
            path = self.path / name
            if path.is_symlink():
                raise UserError(
                    f"{path} is a symbolic link, through which kipper does not write; remove it, "
                    "or give another --workdir."
                )


def _is_held(path: pathlib.Path) -> bool:
    try:
        inode = os.stat(path).st_ino
        locks = pathlib.Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    # "1: FLOCK ADVISORY WRITE pid major:minor:inode start end"; containers have other device
    # numbers.
    held = (line.split() for line in locks if " FLOCK " in line)
    return any(int(words[5].rpartition(":")[2]) == inode for words in held if words[1] != "->")


def _listed(names: list[str]) -> str:
    """Names in a sentence."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _changes(before: Config, config: Config, settings: RunSettings) -> str:
    """The changes of settings that a run must keep; empty if there are none."""
    # An older version without a setting behaved as the setting's default does now.
    defaults = {field.name: field.default for field in run_fields(type(settings.compute))}
    old = {**defaults, **before.settings, "command": command_named(before.command)}
    new = {**config.settings, "command": command_named(config.command)}
    kept = [name for name in new if name not in free_names(type(settings.compute))]
    changed = [name for name in kept if old.get(name) != new[name]]
    return ", ".join(_change(name, old.get(name), new[name]) for name in changed)


def _change(name: str, before: Any, now: Any) -> str:
    """The change of a setting, in a few words."""
    texts = isinstance(before, str) and isinstance(now, str)
    if texts and without_hashes(before) == without_hashes(now):
        return f"the file of {name} {without_hashes(now)} has changed"
    return f"{name} was {before!r} and is {now!r}"
