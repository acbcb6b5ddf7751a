"""A distilled set with everything that evaluating it needs, for the commands that take one."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kipper.common.architecture import check_image_side
from kipper.common.datasets import Dataset, dataset_hash, limit, load_dataset
from kipper.common.errors import UserError
from kipper.common.network_file import is_network_file
from kipper.common.preprocessing import Preprocessing, fit_preprocessing
from kipper.common.printable import printable
from kipper.common.settings import (
    ComputeSettings,
    EvaluateSettings,
    ExportSettings,
    RunSettings,
    run_fields,
)
from kipper.common.settings.evaluate import NO_DISTILLED
from kipper.launch.inprocess import inprocess_links
from kipper.server.distilled_set import (
    DistilledSet,
    Recipe,
    check_fits,
    read_set,
    recipe_path_of,
)
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.experiment import Split
from kipper.server.measures import Score
from kipper.server.pool import Pool
from kipper.server.session import open_kernel
from kipper.workers.choice import check_engine
from kipper.workers.network_trial import try_network

# Settings that a released file needs from the command line, and those that may be overridden.
_REQUIRED_WITHOUT_RECIPE = ("dataset", "preprocess", "architecture")
_OVERRIDES = (
    "dataset",
    "architecture",
    "kernel",
    "kernel_dtype",
    "ridge",
    "block_support",
    "block_target",
    "test_limit",
)

# Settings that affect a score, besides the set and the data.
_RECORDED_WITH = ("architecture", "kernel", "kernel_dtype", "ridge", "test_limit")


@dataclasses.dataclass(frozen=True)
class DistilledFile:
    """A distilled set with everything that evaluating it needs.

    Attributes:
        images: (n, h, w, c), preprocessed.
        labels: (n, C) float64.
        recipe: how it was made; None if the command line gave that instead.
        run: settings of the run that made it, with the overrides of the command line.
        dataset: in raw pixels; test images limited; targets centred like the set's labels.
        preprocessing: from raw pixels to the space of `images`.
        temperature: see `LearnedSet`.
        recorded: the test score that the run measured; None if it is unknown.
        as_recorded: whether `recorded` was measured with `run` and `dataset`.
    """

    images: np.ndarray
    labels: np.ndarray
    recipe: Recipe | None
    run: RunSettings
    dataset: Dataset
    preprocessing: Preprocessing
    recorded: Score | None = None
    as_recorded: bool = False
    temperature: float | None = None


Conditions = Mapping[str, int | float | str | None]


def conditions(run: RunSettings, test: Split) -> Conditions:
    """The settings that a score was measured with, by name, and the number of test images."""
    names = ("preprocess", *_OVERRIDES)
    return {"test_size": len(test.labels), **{name: getattr(run.compute, name) for name in names}}


@contextlib.contextmanager
def kernel_on_test(
    run: RunSettings, dataset: Dataset, preprocessing: Preprocessing
) -> Iterator[tuple[Pool, DistributedKernel, Split]]:
    """The kernel of `run` over workers of this process that hold the test images."""
    test = Split(preprocessing.apply(dataset.x_test), dataset.y_test)
    with kernel_on(run, test) as (pool, kernel):
        yield pool, kernel, test


@contextlib.contextmanager
def kernel_on(run: RunSettings, rows: Split) -> Iterator[tuple[Pool, DistributedKernel]]:
    """The kernel of `run` over workers of this process that hold preprocessed images."""
    row_sets = {rows.key: rows.images}
    links = inprocess_links(run.execution.fixed_workers, row_sets)
    pool, kernel = open_kernel(run, rows.images.shape[1:], links, row_sets)
    try:
        yield pool, kernel
    finally:
        pool.close()


def read_distilled(settings: EvaluateSettings) -> DistilledFile:
    """Reads a distilled set and its data set; remarks on them go to stderr.

    Raises:
        UserError: a file or a setting cannot be used, or they do not fit each other.
    """
    if not settings.distilled:
        raise UserError(NO_DISTILLED)
    found = read_set(pathlib.Path(settings.distilled))
    recipe = found.recipe
    run = _run_settings(settings, found)
    data_dir = settings.data_dir or (recipe.settings.get("data_dir") if recipe else None)
    whole = load_dataset(run.compute.dataset, data_dir)
    dataset = limit(whole, None, run.compute.test_limit)
    check_fits(found, dataset)
    check_image_side(run.compute.kernel_spec.architecture, *dataset.x_test.shape[1:3])
    try_network(run.compute.kernel_spec, dataset.x_test.shape[1:])
    if recipe is None:
        preprocessing = fit_preprocessing(run.compute.preprocess, dataset.x_train)
        dataset = centred_dataset(dataset)
        return DistilledFile(
            *(found.images, found.labels, None, run, dataset, preprocessing),
            temperature=found.temperature,
        )
    dataset = centred_dataset(dataset, recipe.target_mean)
    other_data = recipe.data_hash not in (None, dataset_hash(whole))
    if other_data and settings.dataset is None:
        remark(
            f"The files of data set {run.compute.dataset!r} are not those that the run used, so "
            "the accuracy may differ."
        )
    return DistilledFile(
        found.images,
        found.labels,
        recipe,
        run,
        dataset,
        recipe.preprocessing,
        # Early versions kept it with the settings.
        found.made.test if found.made else Score.read(recipe.settings, "test"),
        as_recorded=found.made is not None
        and not other_data
        and all(run.record()[name] == recipe.settings[name] for name in _RECORDED_WITH),
        temperature=found.temperature,
    )


def centred_dataset(dataset: Dataset, target_mean: np.ndarray | None = None) -> Dataset:
    """The data set with `target_mean`, by default that of training, subtracted from its targets.

    Classes stay as they are.
    """
    if dataset.has_classes:
        return dataset
    mean = dataset.y_train.mean(axis=0) if target_mean is None else target_mean
    y_train, y_test = dataset.y_train - mean, dataset.y_test - mean
    return dataclasses.replace(dataset, y_train=y_train, y_test=y_test)


def remark(sentence: str) -> None:
    """Prints a remark for the user to stderr."""
    print(f"kipper: {printable(sentence)}", file=sys.stderr)


def _run_settings(settings: EvaluateSettings, found: DistilledSet) -> RunSettings:
    """Settings of the run that made the set, with the overrides of the command line."""
    recipe_path = recipe_path_of(found.path)
    if found.recipe is None:
        made = told_settings(settings, found, _REQUIRED_WITHOUT_RECIPE)
        made |= _of_the_file(settings, found)
    elif settings.preprocess is not None:
        raise UserError(
            f"--preprocess cannot be given, since {recipe_path} says how the set was preprocessed."
        )
    else:
        made = found.recipe.settings
        _check_asked_for(str(made["architecture"]), settings)
        if not found.recipe.sets:
            early = found.recipe.kipper_version is None
            why = "an early version" if early else "a run that has not finished"
            remark(f"{recipe_path} is from {why} and does not say which sets it belongs to.")
    names = {field.name for field in run_fields(ComputeSettings)}
    values = {k: v for k, v in made.items() if k in names}
    return overridden(values, settings, str(recipe_path.parent))


def _of_the_file(settings: EvaluateSettings, found: DistilledSet) -> dict[str, float]:
    """The ridge that a file without a recipe gives, if the command line does not."""
    if found.temperature is not None:
        remark(
            f"{found.path.name} holds a temperature of {found.temperature:.4g}, by which "
            "predictions are divided: it enters the loss, not the accuracy."
        )
    if found.ridge is None or settings.ridge is not None:
        return {}
    remark(f"{found.path.name} says --ridge={found.ridge:g} (its jit).")
    return {"ridge": found.ridge}


def _check_asked_for(made_by: str, settings: EvaluateSettings) -> None:
    """Refuses to execute a file only because a distilled set, perhaps a stranger's, names it."""
    if settings.architecture is None and is_network_file(made_by):
        name = pathlib.Path(made_by.partition("#")[0]).name
        raise UserError(
            f"The set was made with the network {name}, which kipper executes only if you ask for "
            f"it; give --architecture=FOLDER/{name}."
        )


def told_settings(
    settings: EvaluateSettings | ExportSettings, found: DistilledSet, required: Sequence[str]
) -> dict[str, Any]:
    """The settings that a set without a recipe needs, from its file name and the command line.

    Raises:
        UserError: one is missing, or the two contradict each other.
    """
    made: dict[str, Any] = {}
    if found.name is not None:
        made = {k: v for k, v in dataclasses.asdict(found.name).items() if k in required}
        if settings.preprocess not in (None, found.name.preprocess):
            raise UserError(
                f"--preprocess is {settings.preprocess}, but the name of {found.path} says "
                f"{found.name.preprocess}; leave the flag out, or rename the file."
            )
    told = {k: v for k in required if (v := getattr(settings, k)) is not None}
    missing = [f"--{k}" for k in required if k not in {**made, **told}]
    if missing:
        raise UserError(
            f"{recipe_path_of(found.path)}, which says how the set was made, does not exist; give "
            f"{', '.join(missing)}."
        )
    if taken := " ".join(f"--{k}={v}" for k, v in made.items() if k not in told):
        remark(f"The name of {found.path.name} says {taken}.")
    return {**made, **told}


def overridden(values: dict[str, Any], settings: EvaluateSettings, workdir: str) -> RunSettings:
    """The settings of a run from values by name, with the overrides of the command line.

    Raises:
        UserError: they cannot be used.
    """
    overrides = {k: v for k in _OVERRIDES if (v := getattr(settings, k)) is not None}
    own = {"workdir": workdir, "engine": settings.engine, "num_workers": settings.num_workers}
    run = RunSettings.of(ComputeSettings, **{**values, **overrides, **own})
    run.check()
    check_engine(run.compute.engine, run.compute.kernel_spec)
    return run
