"""A run, finished or not, as the files in its folder describe it."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from kipper.common.array_files import UNREADABLE, read_npz
from kipper.common.errors import UserError
from kipper.common.labels import are_classes, target_values
from kipper.common.sealed import read_object
from kipper.server import checkpoint
from kipper.server.algorithms import recorded_algorithm
from kipper.server.algorithms.algorithm import Algorithm
from kipper.server.distilled_set import Recipe, load_recipe, read_set
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import ACCURACY, Measure, Score
from kipper.server.records import Evaluation, Json, RunResult, Validation, fits
from kipper.server.run_numerics import RunNumerics, read_numerics
from kipper.server.status import Status, read_status
from kipper.server.workdir import Workdir

_MOST_STEPS = 10**6  # that are looked for
_NAMED = 5  # steps in a sentence
_KINDS = {"packages": Mapping[str, Any], "workers": Mapping[str, Mapping[str, Any]]}


@dataclasses.dataclass(frozen=True)
class SupportFiles:
    """Support images of a run, preprocessed, (n, h, w, c).

    Attributes:
        recipe: the preprocessing, and the names of classes.
        natural: the natural images that were drawn.
        targets: the targets of the initial images: integer classes (n,), or float targets (n, d).
        initial: the images before the first step.
        original_labels: (n, C) before any was learned: centred one-hot vectors, or the targets.
        final, labels: images and labels (n, C) at `step`.
        step: gradient steps made.
        nearest, nearest_targets: the training image most similar to each final one, if known.
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


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """A run as its files describe it.

    Attributes:
        workdir: the run's folder.
        algorithm: with the recorded settings.
        settings: as recorded, by name.
        data_hash: the hash of the data set.
        result: None while the run is not finished.
        status: as the coordinator last wrote it.
        metrics, validation: evaluations by step.
        spectra: lines of spectrum.jsonl, by step.
        environment: environment.json, or {}.
    """

    workdir: Workdir
    algorithm: Algorithm
    settings: Json
    data_hash: str
    result: RunResult | None
    status: Status
    metrics: list[Evaluation]
    validation: list[Validation]
    spectra: list[Json]
    environment: Json

    @property
    def title(self) -> str:
        """Algorithm, data set and architecture, in words."""
        return f"{self.algorithm.title} of {self.dataset} with {self.architecture}"

    @property
    def architecture(self) -> str:
        """See `shown_architecture`."""
        return shown_architecture(self.algorithm.settings.architecture)

    @property
    def dataset(self) -> str:
        """See `shown_dataset`."""
        return shown_dataset(self.algorithm.settings.dataset)

    @property
    def numerics(self) -> RunNumerics:
        """The identities that computed, as far as the status says."""
        with contextlib.suppress(TypeError):
            if self.status.numerics is not None:
                return read_numerics(self.status.numerics)
        return RunNumerics()

    @property
    def step(self) -> int | None:
        """Gradient steps made by the newest evaluation; None before the first."""
        if self.result is not None:
            return self.result.steps
        return self.metrics[-1].step if self.metrics else None

    @property
    def test(self) -> Score | None:
        """The newest test score."""
        latest = self.result or (self.metrics[-1] if self.metrics else None)
        return latest.test if latest is not None else None

    @property
    def natural(self) -> Score | None:
        """The test score of natural images with natural labels, if it is known."""
        return self.algorithm.natural_score(self.result, self._first)

    @property
    def initial(self) -> Score | None:
        """The test score of the set that the run started from, if it is known."""
        return self.algorithm.initial_score(self.result, self._first)

    @property
    def measure(self) -> Measure:
        """The measure of the run's scores; accuracy before the first."""
        scores = self.test, self._first.test if self._first else None
        return next((score.measure for score in scores if score), ACCURACY)

    @property
    def _first(self) -> Evaluation | None:
        return self.metrics[0] if self.metrics else None


def shown_architecture(architecture: str) -> str:
    """The name of an architecture; for a user-defined network the file's name and the function."""
    return pathlib.PurePath(architecture.partition("#")[0]).name


def shown_dataset(dataset: str) -> str:
    """The name of a data set; for user-defined files the last part of the path."""
    name, _, path = dataset.partition(":")
    if name == "arrays":  # given in Python, named by their content
        return f"arrays {path[:6]}"
    return pathlib.PurePath(path).name or name


def read_run(folder: str | pathlib.Path) -> RunFiles:
    """Reads the small files of a run; `read_support` reads the images.

    Raises:
        UserError: the folder does not hold a run, or a run of an unknown algorithm.
    """
    workdir = Workdir(folder)
    try:
        config = workdir.read_config()
        algorithm = recorded_algorithm(config.command, config.settings)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not the folder of a run: there is no {workdir.config.name} in it."
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{workdir.config} is not a kipper configuration.") from error
    metrics, result = workdir.evaluations(), workdir.read_result()
    if result is not None and metrics and metrics[-1].step > result.steps:
        result = None  # the run has been resumed with more steps
    run = RunFiles(
        workdir=workdir,
        algorithm=algorithm,
        settings=config.settings,
        data_hash=config.data_hash,
        result=result,
        status=read_status(workdir.status),
        metrics=metrics,
        validation=workdir.validations(),
        spectra=workdir.read_records(workdir.spectrum),
        environment=_environment(workdir),
    )
    _warn_of_missing(run)
    return run


def _environment(workdir: Workdir) -> Json:
    """environment.json, without what is not of the kind that kipper writes."""
    try:
        found = read_object(workdir.environment)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logging.warning("%s is damaged and left out: %s.", workdir.environment, error)
        return {}
    return {name: value for name, value in found.items() if fits(value, _KINDS.get(name, Any))}


def read_support(run: RunFiles) -> SupportFiles | None:
    """The images of a run; None before its coordinator has started.

    Raises:
        UserError: a file that the coordinator wrote cannot be read.
    """
    workdir = run.workdir
    if not (workdir.natural.exists() and workdir.preprocessing.exists()):
        return None
    recipe = load_recipe(workdir.preprocessing)
    natural, targets = _arrays(workdir.natural, "images", "targets")
    learns_images = run.algorithm.learns_images
    begun = checkpoint.support_of(workdir.checkpoints, step=0) if learns_images else None
    initial = natural
    if begun is not None and not np.array_equal(begun[1].images, natural):
        initial, initial_labels, _ = begun[1]
        if are_classes(targets):  # a set given with --initial may have other classes
            targets = initial_labels.argmax(1)
    original = target_values(targets, len(recipe.class_names))
    step, (final, labels, _) = _newest(run) or (0, LearnedSet(initial, original))
    nearest: list[np.ndarray] | tuple[None, None] = (None, None)
    if run.result is not None and workdir.neighbours.exists():
        nearest = _arrays(workdir.neighbours, "images", "targets")
    return SupportFiles(
        recipe, natural, targets, initial, original, final, labels, step, nearest[0], nearest[1]
    )


def _newest(run: RunFiles) -> tuple[int, LearnedSet] | None:
    """Step and support set of the result, or of the newest checkpoint that holds images."""
    if run.result is not None and run.workdir.distilled.exists():
        found = read_set(run.workdir.distilled)
        return run.result.steps, found.support
    return checkpoint.support_of(run.workdir.checkpoints) if run.algorithm.learns_images else None


def _warn_of_missing(run: RunFiles) -> None:
    """Warns of evaluations that the run has made and that its files lack."""
    ends = run.status.evaluated_step, run.result.steps if run.result is not None else None
    made = list(ends)
    if run.algorithm.learns_images:
        made += [step - 1 for step in checkpoint.steps_in(run.workdir.checkpoints)]
    last = min(max((step for step in made if step is not None), default=-1), _MOST_STEPS)
    metrics = {each.step for each in run.metrics}
    spectra = {int(each["step"]) for each in run.spectra}
    # Which evaluations of many images a run left out depends on its data; the files say it.
    known = {*metrics, *spectra, *(each.step for each in run.validation), *ends}
    expected = {step for step in range(last + 1) if run.algorithm.is_evaluated(step)} & known
    for path, found in ((run.workdir.metrics, metrics), (run.workdir.spectrum, spectra)):
        missing = sorted(expected - found)
        if missing:
            listed = ", ".join(map(str, missing[:_NAMED])) + (" …" if missing[_NAMED:] else "")
            logging.warning("%s lacks the evaluations of steps %s.", path, listed)
    scored = run.validation[-1].step if run.validation else None
    if run.result is not None and scored not in (None, run.result.steps):
        logging.warning(
            "%s ends at step %d, the run at step %d.",
            run.workdir.validation,
            scored,
            run.result.steps,
        )


def _arrays(path: pathlib.Path, *names: str) -> list[np.ndarray]:
    try:
        arrays = read_npz(path, names)
        return [arrays[name] for name in names]
    except (KeyError, *UNREADABLE) as error:
        raise UserError(f"{path} cannot be read ({error}).") from error
