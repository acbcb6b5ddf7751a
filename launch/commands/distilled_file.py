"""A distilled set with all that it is to be evaluated by, for the commands that take one."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kipper.common.architecture import check_image_side
from kipper.common.datasets import Dataset, dataset_hash, limit, load_dataset
from kipper.common.errors import UserError
from kipper.common.network_file import is_network_file
from kipper.common.preprocessing import Preprocessing, fit_preprocessing
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

# What a released file needs to be told, and what else may be overridden.
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

# What else decides an accuracy, beside the set and the data.
_RECORDED_WITH = ("architecture", "kernel", "kernel_dtype", "ridge", "test_limit")


@dataclasses.dataclass(frozen=True)
class DistilledFile:
    """A distilled set with all that it is to be evaluated by.

    Attributes:
        images: (n, h, w, c), preprocessed.
        labels: (n, C) float64.
        recipe: how it was made; None where the command line had to say it.
        run: settings of the run that made it, with what the command line overrides.
        dataset: in raw pixels; test images limited; targets centred as the set's labels are.
        preprocessing: from raw pixels to the space of `images`.
        recorded: the test score that the run measured; None if it is not known.
        as_recorded: whether `run` and `dataset` are those that it was measured with.
    """

    images: np.ndarray
    labels: np.ndarray
    recipe: Recipe | None
    run: RunSettings
    dataset: Dataset
    preprocessing: Preprocessing
    recorded: Score | None = None
    as_recorded: bool = False


def conditions(run: RunSettings, test: Split) -> dict[str, Any]:
    """What an accuracy was measured by, for the report."""
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
    links = inprocess_links(run.execution.num_workers, row_sets)
    pool, kernel = open_kernel(run, rows.images.shape[1:], links, row_sets)
    try:
        yield pool, kernel
    finally:
        pool.close()


def read_distilled(settings: EvaluateSettings) -> DistilledFile:
    """The set that `settings` name, and its data set; remarks on them go to stderr.

    Raises:
        UserError: as `evaluate_file`.
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
        return DistilledFile(found.images, found.labels, None, run, dataset, preprocessing)
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
    )


def centred_dataset(dataset: Dataset, target_mean: np.ndarray | None = None) -> Dataset:
    """With targets less their mean: that of training if none is given. Classes stay as they are."""
    if dataset.has_classes:
        return dataset
    mean = dataset.y_train.mean(axis=0) if target_mean is None else target_mean
    y_train, y_test = dataset.y_train - mean, dataset.y_test - mean
    return dataclasses.replace(dataset, y_train=y_train, y_test=y_test)


def remark(sentence: str) -> None:
    """Tells a person something that is no part of a command's output."""
    print(f"kipper: {sentence}", file=sys.stderr)


def _run_settings(settings: EvaluateSettings, found: DistilledSet) -> RunSettings:
    """Settings of the run that made the set, with what the command line overrides."""
    recipe_path = recipe_path_of(found.path)
    if found.recipe is None:
        made = told_settings(settings, found, _REQUIRED_WITHOUT_RECIPE)
    elif settings.preprocess is not None:
        raise UserError(
            f"--preprocess cannot be given: {recipe_path} says how the set was preprocessed."
        )
    else:
        made = found.recipe.settings
        _check_asked_for(str(made["architecture"]), settings)
        if not found.recipe.sets:
            early = found.recipe.kipper_version is None
            why = "is of an early version" if early else "is of a run that has not finished"
            remark(f"{recipe_path} {why}, and does not say which sets it belongs to.")
    names = {field.name for field in run_fields(ComputeSettings)}
    values = {k: v for k, v in made.items() if k in names}
    return overridden(values, settings, str(recipe_path.parent))


def _check_asked_for(made_by: str, settings: EvaluateSettings) -> None:
    """Refuses to run a file because a distilled set, perhaps another's, says so."""
    if settings.architecture is None and is_network_file(made_by):
        name = pathlib.Path(made_by.partition("#")[0]).name
        raise UserError(
            f"The set was made by the network {name}, and only you can say that this file is to "
            f"be run; give --architecture=FOLDER/{name}."
        )


def told_settings(
    settings: EvaluateSettings | ExportSettings, found: DistilledSet, required: Sequence[str]
) -> dict[str, Any]:
    """What must be known of a set without a recipe, from its name and the command line.

    Raises:
        UserError: something is missing, or the two contradict each other.
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
            f"There is no {recipe_path_of(found.path)} to say how the set was made; give "
            f"{', '.join(missing)}."
        )
    if taken := " ".join(f"--{k}={v}" for k, v in made.items() if k not in told):
        remark(f"The name of {found.path.name} says {taken}.")
    return {**made, **told}


def overridden(values: dict[str, Any], settings: EvaluateSettings, workdir: str) -> RunSettings:
    """Settings of a run by name, with what the command line says instead.

    Raises:
        UserError: they cannot be used.
    """
    overrides = {k: v for k in _OVERRIDES if (v := getattr(settings, k)) is not None}
    own = {"workdir": workdir, "engine": settings.engine, "num_workers": settings.num_workers}
    run = RunSettings.of(ComputeSettings, **{**values, **overrides, **own})
    run.check()
    check_engine(run.compute.engine, run.compute.kernel_spec)
    return run
