"""What the files of a run's folder tell of it, finished or not."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kipper.common.errors import UserError
from kipper.common.labels import centred_one_hot
from kipper.server import checkpoint
from kipper.server.distilled_set import Recipe, load_distilled, load_recipe
from kipper.server.figures.measures import Measure, measure_of
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

_UNREADABLE = (OSError, ValueError, KeyError, EOFError)


@dataclasses.dataclass(frozen=True)
class SupportFiles:
    """Support images of a run, preprocessed, (n, h, w, c).

    Attributes:
        recipe: the way to pixels, and the names of classes.
        natural: the natural images that were drawn.
        targets: of the initial images: integer classes (n,), or float targets (n, d).
        initial: what the first step began with.
        original_labels: (n, C) before any was learned: centred one-hot vectors, or the targets.
        final, labels: as they are at `step`; labels (n, C).
        step: gradient steps made.
        nearest, nearest_targets: the natural training image most like each final one, if known.
    """

    recipe: Recipe
    natural: np.ndarray
    targets: np.ndarray
    initial: np.ndarray
    original_labels: np.ndarray
    final: np.ndarray
    labels: np.ndarray
    step: int
    nearest: np.ndarray | None
    nearest_targets: np.ndarray | None

    @property
    def are_classes(self) -> bool:
        """Whether targets are classes."""
        return self.targets.dtype.kind in "iu"


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """A run as its files have it.

    Attributes:
        workdir: they are in.
        command: the name of its settings' class.
        settings: by name.
        data_hash: of the data set.
        result: what result.json holds; None while the run is not finished.
        status: what status.json holds, or {}.
        metrics, validation, spectra: records by step.
        environment: what environment.json holds, or {}.
    """

    workdir: Workdir
    command: str
    settings: dict[str, Any]
    data_hash: str
    result: dict[str, Any] | None
    status: dict[str, Any]
    metrics: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    spectra: list[dict[str, Any]]
    environment: dict[str, Any]

    @property
    def learns_images(self) -> bool:
        """Whether it is a run of KIP and not of Label Solve."""
        return self.command == "DistillSettings"

    @property
    def algorithm(self) -> str:
        """KIP or Label Solve, and whether labels are learned."""
        if not self.learns_images:
            return "LS"
        learned = self.settings.get("learn_labels") or self.settings.get("solve_labels_every")
        return "KIP, labels learned" if learned else "KIP"

    @property
    def architecture(self) -> str:
        """See `shown_architecture`."""
        return shown_architecture(self.settings)

    @property
    def dataset(self) -> str:
        """See `shown_dataset`."""
        return shown_dataset(self.settings)

    @property
    def measure(self) -> Measure:
        """What it is judged by."""
        return measure_of(self.result, *self.metrics[:1])

    @property
    def latest(self) -> dict[str, Any]:
        """The result, or the last record of a run that is not finished; {} before the first."""
        return self.result or (self.metrics[-1] if self.metrics else {})

    @property
    def natural_score(self) -> float | None:
        """Of natural images with natural labels, as `measure` shows it."""
        found = natural_value(self.learns_images, self.settings, self.result, self.metrics)
        return None if found is None else self.measure.factor * found


def shown_architecture(settings: Mapping[str, Any]) -> str:
    """Its name; of a file of the user's own the last part, without its hash."""
    return pathlib.PurePath(str(settings["architecture"]).partition("#")[0]).name


def shown_dataset(settings: Mapping[str, Any]) -> str:
    """Its name; of a file the last part."""
    name, _, path = str(settings["dataset"]).partition(":")
    return pathlib.PurePath(path).name or name


def natural_value(
    learns_images: bool,
    settings: Mapping[str, Any],
    result: Mapping[str, Any] | None,
    metrics: Sequence[Mapping[str, Any]],
) -> float | None:
    """The score of natural images with natural labels, as records have it; None: not known yet."""
    key = measure_of(result, *metrics[:1]).key
    found = (result or {}).get(f"natural_{key}")
    others = ("freeze_pixels", "initial", "solve_labels_every")
    begins_natural = settings.get("support_init", "natural") == "natural" and not any(
        settings.get(name) for name in others
    )
    if found is None and learns_images and metrics and begins_natural:
        found = metrics[0].get(f"test_{key}")
    return None if found is None else float(found)


def read_run(folder: str | pathlib.Path) -> RunFiles:
    """Reads what is small; `read_support` reads the images.

    Raises:
        UserError: there is no run in the folder.
    """
    workdir = Workdir(folder)
    try:
        config = json.loads(workdir.config.read_text())
        command, settings = str(config["command"]), dict(config["settings"])
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not the folder of a run: there is no {workdir.config.name} in it."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{workdir.config} is not a kipper configuration.") from error
    result = _json(workdir.result)
    metrics = workdir.read_records(workdir.metrics)
    if result is not None and metrics and metrics[-1]["step"] > result.get("steps", 0):
        result = None  # of a run that is going on to more steps
    return RunFiles(
        workdir=workdir,
        command=command,
        settings=settings,
        data_hash=str(config.get("data_hash", "")),
        result=result,
        status=read_status(workdir.status),
        metrics=metrics,
        validation=workdir.read_records(workdir.validation),
        spectra=workdir.read_records(workdir.spectrum),
        environment=_json(workdir.environment) or {},
    )


def read_support(run: RunFiles) -> SupportFiles | None:
    """The images of a run; None while its coordinator has not begun.

    Raises:
        UserError: a file that the coordinator wrote cannot be read.
    """
    workdir = run.workdir
    if not (workdir.natural.exists() and workdir.preprocessing.exists()):
        return None
    recipe = load_recipe(workdir.preprocessing)
    natural, targets = _arrays(workdir.natural, "images", "targets")
    begun = checkpoint.support_of(workdir.checkpoints, first=True) if run.learns_images else None
    initial = natural
    if begun is not None and begun[0] == 0 and not np.array_equal(begun[1], natural):
        _, initial, begun_with = begun
        if targets.dtype.kind in "iu":  # a set that the run goes on from may have other classes
            targets = begun_with.argmax(1)
    original = _original_labels(targets, recipe.class_names)
    step, final, labels = _newest(run) or (0, initial, original)
    nearest: list[np.ndarray] | tuple[None, None] = (None, None)
    if run.result is not None and workdir.neighbours.exists():
        nearest = _arrays(workdir.neighbours, "images", "targets")
    return SupportFiles(
        recipe, natural, targets, initial, original, final, labels, step, nearest[0], nearest[1]
    )


def _newest(run: RunFiles) -> tuple[int, np.ndarray, np.ndarray] | None:
    """Step, images and labels of the result, or of the newest checkpoint that has them."""
    if run.result is not None and run.workdir.distilled.exists():
        return int(run.result["steps"]), *load_distilled(run.workdir.distilled)
    return checkpoint.support_of(run.workdir.checkpoints) if run.learns_images else None


def _original_labels(targets: np.ndarray, class_names: tuple[str, ...]) -> np.ndarray:
    if targets.dtype.kind in "iu":
        return centred_one_hot(targets, len(class_names))
    return targets


def _json(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _arrays(path: pathlib.Path, *names: str) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except _UNREADABLE as error:
        raise UserError(f"{path} cannot be read ({error}).") from error
