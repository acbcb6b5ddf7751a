"""Checkpoints of a run: folders written atomically and verified by hash.

checkpoints/step-000060/{state.npz, manifest.json}. A folder is made under a temporary name,
flushed to disk and renamed, so a crash leaves the earlier checkpoints and no partial one. The
manifest holds the hash of the state and a checksum of itself.
"""

import contextlib
import dataclasses
import hashlib
import pathlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import jax
import numpy as np
from absl import logging

from kipper.common.array_files import UNREADABLE, read_npz
from kipper.common.files import folder_written_whole, set_aside, write_npz
from kipper.common.sealed import read_object, write_object
from kipper.server.confirmations import Confirmations
from kipper.server.learned_set import LearnedSet, temperature_of
from kipper.server.records import Config, Counters, Facts, Json
from kipper.server.run_numerics import RunNumerics, read_numerics

# Steps of the released data sets (arXiv 2107.13034), then every 500.
_NAMED = (0, 1, 2, 4, 6, 8, 12, 18, 26, 37, 54, 78, 112, 162, 233, 335, 483, 695, 1000)
RESUME_POINTS_KEPT = 2
# Further ones, from before the first unconfirmed answer of a worker: the run goes back to one of
# these if the worker turns out to be a liar.
GO_BACK_POINTS_KEPT = 2
MOST_UNNAMED = RESUME_POINTS_KEPT + GO_BACK_POINTS_KEPT
# Maximum time between two checkpoints, so that a crash loses little work.
SECONDS_BETWEEN_RESUME_POINTS = 60.0


class Resumable(Protocol):
    """A named tuple of arrays, numbers, or trees of arrays that knows its number of steps."""

    @property
    def step(self) -> int:
        """The number of steps by its own count, which must be that of the manifest."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


State = TypeVar("State", bound=Resumable)


@dataclasses.dataclass(frozen=True)
class Manifest(Facts):
    """manifest.json, which says what a checkpoint is; the file carries a checksum of this.

    Attributes:
        named: whether the checkpoint is kept permanently.
        counters: the counters of the run so far; see `Counters`.
        config: the run's config.json.
        sha256: the SHA-256 hashes of the checkpoint's other files, by name.
        confirmations: which workers' answers the state rests on; None in those of earlier versions.
        numerics: the numeric identities of the run so far, see `RunNumerics`; None in those of
            early versions.
    """

    step: int
    named: bool
    counters: Json
    config: Json
    sha256: Mapping[str, str]
    confirmations: Json | None = None
    numerics: Json | None = None


@dataclasses.dataclass(frozen=True)
class Checkpoint(Generic[State]):
    """A run's state when it was saved.

    Attributes:
        step: gradient steps of KIP made, or target images that Label Solve has summed over.
        state: everything needed to resume.
        confirmations: which workers' answers the state rests on; see `Confirmations.read`.
        numerics: see `Manifest`.
    """

    step: int
    state: State
    counters: Counters
    confirmations: Json | None = None
    numerics: Json | None = None


class ResumePoints(Generic[State]):
    """The checkpoints that one coordinator finds and writes.

    `config` goes into the manifests, and so do the `counters`, `confirmations` and `numerics` of
    the time.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        config: Json,
        counters: Callable[[], Counters],
        confirmations: Callable[[], Json],
        numerics: Callable[[], Json] = dict,
    ):
        self._folder = folder
        self._config = config
        self._counters = counters
        self._confirmations = confirmations
        self._numerics = numerics
        self._saved_step = -1
        self._saved_at = time.monotonic()

    def newest(self, template: State) -> Checkpoint[State] | None:
        """The newest whole checkpoint, if there is one; see the function of this name."""
        found = newest(self._folder, template)
        if found is not None:
            logging.info("Resuming at step %d.", found.step)
            self._saved_step = found.step
        return found

    def is_late(self) -> bool:
        """Whether the last checkpoint is so old that another one is due."""
        return time.monotonic() - self._saved_at > SECONDS_BETWEEN_RESUME_POINTS

    def save(self, step: int, state: State, keep: bool = False) -> None:
        """Saves a step, unless it is the one that was saved or found last; see `save`."""
        if step != self._saved_step:
            point = Checkpoint(
                step, state, self._counters(), self._confirmations(), self._numerics()
            )
            save(self._folder, point, self._config, keep)
            self._saved_step, self._saved_at = step, time.monotonic()


def is_named(step: int) -> bool:
    """Whether a step is among 0, 1, 2, 4, 6, 8, 12, 18, … 1000, 1500, 2000, …"""
    return step in _NAMED or (step > _NAMED[-1] and step % 500 == 0)


def named_steps(last: int) -> list[int]:
    """Steps up to `last` that `is_named` names, in order."""
    later = range(_NAMED[-1] + 500, last + 1, 500)
    return [*(step for step in _NAMED if step <= last), *later]


def save(folder: pathlib.Path, checkpoint: Checkpoint[State], config: Json, keep: bool) -> None:
    """Writes a checkpoint atomically, and removes older ones that it makes superfluous.

    `config` goes into the manifest; with `keep` the checkpoint is never removed as superfluous.
    """
    # A checkpoint of this step that exists already is damaged.
    with folder_written_whole(folder / _name(checkpoint.step), clear=_remove) as unfinished:
        arrays = {name: np.asarray(array) for name, array in _named_arrays(checkpoint.state)}
        write_npz(unfinished / "state.npz", arrays)
        manifest = Manifest(
            step=checkpoint.step,
            named=keep,
            counters=checkpoint.counters.record(),
            config=config,
            sha256={"state.npz": _sha256(unfinished / "state.npz")},
            confirmations=checkpoint.confirmations,
            numerics=checkpoint.numerics,
        )
        write_object(unfinished / "manifest.json", manifest.record())
    _prune(folder, Confirmations.read(checkpoint.confirmations, checkpoint.step).positions)


def newest(folder: pathlib.Path, template: State) -> Checkpoint[State] | None:
    """The newest checkpoint that is intact; damaged ones are skipped with a warning.

    `template` is a state with the same structure.
    """
    for leftover in folder.glob(".step-[0-9]*.tmp"):
        _remove(leftover)
    for path in reversed(_by_step(folder)):
        try:
            return _load(path, template)
        except (KeyError, *UNREADABLE) as error:
            logging.warning("Checkpoint %s is damaged and skipped: %s", path, error)
    return None


def support_of(folder: pathlib.Path, step: int | None = None) -> tuple[int, LearnedSet] | None:
    """Step and support set of KIP's newest intact checkpoint, or of that of `step`.

    Unlike `newest` it needs no template, so it also serves other processes. Damaged ones are
    skipped with a warning.
    """
    for path in reversed(_by_step(folder)):
        if step is not None and path.name != _name(step):
            continue
        try:
            manifest = _manifest(path)
            arrays = read_npz(path / "state.npz")
            temperature = temperature_of(arrays.get("log_temperature"))
            return manifest.step, LearnedSet(arrays["images"], arrays["labels"], temperature)
        except FileNotFoundError:
            pass  # the run may remove one while it is read
        except (KeyError, *UNREADABLE) as error:
            logging.warning("Checkpoint %s is damaged and skipped: %s", path, error)
    return None


def support_at(folder: pathlib.Path, step: int) -> LearnedSet | None:
    """The support set of KIP's checkpoint of a step; None if there is no intact one."""
    found = support_of(folder, step)
    return None if found is None else found[1]


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of all checkpoints, ascending."""
    return [int(path.name.removeprefix("step-")) for path in _by_step(folder)]


def is_intact(folder: pathlib.Path, step: int) -> bool:
    """Whether there is a checkpoint of a step, and its files are those that were written."""
    try:
        _manifest(folder / _name(step))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def remove_after(folder: pathlib.Path, step: int) -> None:
    """Removes the checkpoints of later steps."""
    for path in reversed(_by_step(folder)):
        if int(path.name.removeprefix("step-")) > step:
            _remove(path)


def numerics_before(folder: pathlib.Path) -> RunNumerics:
    """The identities that the newest intact checkpoint records; none if there is no checkpoint."""
    for path in reversed(_by_step(folder)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return read_numerics(_manifest(path).numerics)
    return RunNumerics()


def configs_in(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, Config]]:
    """Each checkpoint with the configuration of its run, if its manifest can be read."""
    for path in _by_step(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            manifest = Manifest.read(read_object(path / "manifest.json"))
            yield path, Config.read(manifest.config)


def _named_arrays(state: Resumable) -> Iterator[tuple[str, Any]]:
    """Arrays and numbers by the name of their field; those of a tree as FIELD_0, FIELD_1, …"""
    for field, value in state._asdict().items():
        if jax.tree_util.all_leaves([value]):
            yield field, value
        else:
            leaves = jax.tree_util.tree_leaves(value)
            yield from ((f"{field}_{i}", leaf) for i, leaf in enumerate(leaves))


def _manifest(path: pathlib.Path) -> Manifest:
    """The manifest of a checkpoint.

    Raises:
        OSError, TypeError, ValueError: it cannot be read, or is that of another checkpoint.
    """
    manifest = Manifest.read(read_object(path / "manifest.json"))
    if path.name != _name(manifest.step):
        raise ValueError(f"its manifest is that of step {manifest.step}")
    if manifest.sha256.get("state.npz") != _sha256(path / "state.npz"):
        raise ValueError("state.npz does not have the hash that the manifest records")
    return manifest


def _load(path: pathlib.Path, template: State) -> Checkpoint[State]:
    manifest = _manifest(path)
    arrays = read_npz(path / "state.npz")
    leaves = [_like(leaf, arrays[name]) for name, leaf in _named_arrays(template)]
    state: State = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(template), leaves)
    if state.step != manifest.step:
        raise ValueError(f"its manifest says step {manifest.step}, its state {state.step}")
    return Checkpoint(
        manifest.step,
        state,
        Counters.read(manifest.counters),
        manifest.confirmations,
        manifest.numerics,
    )


def _like(leaf: Any, found: np.ndarray) -> Any:
    """The array in the form that it had in the state."""
    if np.shape(leaf) != found.shape or np.asarray(leaf).dtype != found.dtype:
        raise ValueError(f"an array of its state has dtype {found.dtype} and shape {found.shape}")
    return found.item() if isinstance(leaf, int | float) else found


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _prune(folder: pathlib.Path, positions: Collection[int]) -> None:
    """Removes checkpoints that are not kept permanently, except those that may still be needed.

    These are the newest, and the newest up to each of the greatest few `positions`.
    """
    unnamed, steps = [], steps_in(folder)
    for path in _by_step(folder):
        # A damaged one stays, for whoever reads the warning about it.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if not Manifest.read(read_object(path / "manifest.json")).named:
                unnamed.append(path)
    before = {max((step for step in steps if step <= p), default=0) for p in positions}
    older = unnamed[:-RESUME_POINTS_KEPT]
    useful = [path for path in older if int(path.name.removeprefix("step-")) in before]
    for path in older:
        if path not in useful[-GO_BACK_POINTS_KEPT:]:
            _remove(path)


def _remove(path: pathlib.Path) -> None:
    """Removes a checkpoint's files; a folder with other files in it stays under another name."""
    if not (path.exists() or path.is_symlink()):
        return
    if path.is_dir() and not path.is_symlink():
        for name in ("state.npz", "manifest.json"):
            if not (path / name).is_dir():
                (path / name).unlink(missing_ok=True)
        for leftover in path.glob(".*.npz.[0-9]*.tmp"):
            leftover.unlink()
        with contextlib.suppress(OSError):  # not empty
            path.rmdir()
            return
    logging.warning("%s holds files that are not kipper's; it is now %s.", path, set_aside(path))


def _by_step(folder: pathlib.Path) -> list[pathlib.Path]:
    """Checkpoint folders by ascending step."""
    steps = {path: path.name.removeprefix("step-") for path in folder.glob("step-*")}
    found = [path for path, step in steps.items() if step.isdecimal() and not path.is_symlink()]
    return sorted(found, key=lambda path: int(steps[path]))
