"""`kipper evaluate`: the accuracy of a distilled set, from its two files and a data set."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kipper.common.architecture import check_image_side
from kipper.common.datasets import Dataset, limit, load_dataset
from kipper.common.errors import UserError
from kipper.common.preprocessing import Preprocessing, fit_preprocessing
from kipper.common.settings import EvaluateSettings, RunSettings
from kipper.launch.inprocess import inprocess_links
from kipper.server.distilled_set import Recipe, load_distilled, load_recipe
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.evaluation import score
from kipper.server.experiment import Split
from kipper.server.pool import Pool
from kipper.server.session import open_kernel
from kipper.workers.choice import check_engine

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


@dataclasses.dataclass(frozen=True)
class DistilledFile:
    """A distilled set with all that it is to be evaluated by.

    Attributes:
        images: (n, h, w, c), preprocessed.
        labels: (n, C) float64.
        recipe: how it was made; None where the command line had to say it.
        run: settings of the run that made it, with what the command line overrides.
        dataset: in raw pixels; test images limited.
        preprocessing: from raw pixels to the space of `images`.
    """

    images: np.ndarray
    labels: np.ndarray
    recipe: Recipe | None
    run: RunSettings
    dataset: Dataset
    preprocessing: Preprocessing


def print_evaluation(settings: EvaluateSettings) -> None:
    """Prints the evaluation as one JSON object."""
    settings.check()
    if settings.natural is None:
        print(json.dumps(evaluate_file(settings)))
        return
    # Here, since that module builds on this one.
    from kipper.launch.natural import evaluate_natural

    print(json.dumps(evaluate_natural(settings)))


def evaluate_file(settings: EvaluateSettings) -> dict[str, Any]:
    """Test accuracy and loss of a distilled set, with the settings they were measured by.

    Raises:
        UserError: a file or a setting cannot be used, or they do not fit each other.
        NumericalError: the regression could not be solved.
    """
    file = read_distilled(settings)
    with kernel_on_test(file.run, file.dataset, file.preprocessing) as (pool, kernel, test):
        kernel.set_support(file.images.astype(file.run.kernel_dtype))
        result = score(kernel, file.labels, file.run.ridge, test.key, test.labels)
    recorded = file.recipe.settings.get("test_accuracy") if file.recipe else None
    return {
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "recorded_test_accuracy": recorded,
        "support_size": len(file.images),
        **conditions(file.run, test),
        "kernel_pairs": pool.counts.kernel_pairs,
    }


def conditions(run: RunSettings, test: Split) -> dict[str, Any]:
    """What an accuracy was measured by, for the report."""
    names = ("preprocess", *_OVERRIDES)
    return {"test_size": len(test.labels), **{name: getattr(run, name) for name in names}}


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
    links = inprocess_links(run.num_workers, row_sets)
    pool, kernel = open_kernel(run, rows.images.shape[1:], links, row_sets)
    try:
        yield pool, kernel
    finally:
        pool.close()


def read_distilled(settings: EvaluateSettings) -> DistilledFile:
    """The set that `settings` name, and its data set.

    Raises:
        UserError: as `evaluate_file`.
    """
    if not settings.distilled:
        raise UserError("--distilled is required: the .npz file of a distilled set.")
    path = pathlib.Path(settings.distilled)
    images, labels = load_distilled(path)
    recipe_path = path.with_name("preprocessing.npz")
    recipe = load_recipe(recipe_path) if recipe_path.exists() else None
    run = _run_settings(settings, recipe, recipe_path)
    data_dir = settings.data_dir or (recipe.settings.get("data_dir") if recipe else None)
    dataset = limit(load_dataset(run.dataset, data_dir), None, run.test_limit)
    _check_fit(path, images, labels, dataset, run)
    if recipe is None:
        assert settings.preprocess is not None
        preprocessing = fit_preprocessing(settings.preprocess, dataset.x_train)
    else:
        preprocessing = recipe.preprocessing
    return DistilledFile(images, labels, recipe, run, dataset, preprocessing)


def _run_settings(
    settings: EvaluateSettings, recipe: Recipe | None, recipe_path: pathlib.Path
) -> RunSettings:
    """Settings of the run that made the set, with what the command line overrides."""
    if recipe is None:
        missing = [f"--{name}" for name in _REQUIRED_WITHOUT_RECIPE if not getattr(settings, name)]
        if missing:
            raise UserError(
                f"There is no {recipe_path} to say how the set was made; give {', '.join(missing)}."
            )
    elif settings.preprocess is not None:
        raise UserError(
            f"--preprocess cannot be given: {recipe_path} says how the set was preprocessed."
        )
    names = {field.name for field in dataclasses.fields(RunSettings)}
    made = recipe.settings if recipe else {"preprocess": settings.preprocess}
    values = {k: v for k, v in made.items() if k in names}
    return overridden(values, settings, str(recipe_path.parent))


def overridden(values: dict[str, Any], settings: EvaluateSettings, workdir: str) -> RunSettings:
    """Settings of a run by name, with what the command line says instead.

    Raises:
        UserError: they cannot be used.
    """
    overrides = {k: v for k in _OVERRIDES if (v := getattr(settings, k)) is not None}
    run = RunSettings(
        **{
            **values,
            **overrides,
            "workdir": workdir,
            "engine": settings.engine,
            "num_workers": settings.num_workers,
        }
    )
    run.check()
    check_engine(run.engine, run.kernel_spec)
    return run


def _check_fit(
    path: pathlib.Path, images: np.ndarray, labels: np.ndarray, dataset: Dataset, run: RunSettings
) -> None:
    if images.shape[1:] != dataset.x_test.shape[1:]:
        raise UserError(
            f"{path} holds images of shape {images.shape[1:]}, but data set {dataset.name!r} has "
            f"{dataset.x_test.shape[1:]}; give the data set that it was distilled from."
        )
    if labels.shape[1] != dataset.num_classes:
        raise UserError(
            f"{path} holds labels for {labels.shape[1]} classes, but data set {dataset.name!r} has "
            f"{dataset.num_classes}; give the data set that it was distilled from."
        )
    check_image_side(run.kernel_spec.architecture, images.shape[1], images.shape[2])
