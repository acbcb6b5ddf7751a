"""The Python interface: arrays in, a result object out; runs as from the command line."""

import dataclasses
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from kipper.common.errors import UserError
from kipper.common.files import write_npz, written_for
from kipper.common.settings import (
    ComputeSettings,
    DistillSettings,
    RunSettings,
    SolveLabelsSettings,
    run_fields,
)
from kipper.launch.run import run
from kipper.server.distilled_set import load_distilled, load_recipe
from kipper.server.measures import ACCURACY, R_SQUARED, Measure, Score
from kipper.server.workdir import Workdir

# Settings that the interface sets itself.
_OWN_SETTINGS = ("workdir", "dataset", "data_dir")


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        images: distilled images (n, h, w, c), preprocessed, in the kernel's dtype.
        labels: (n, C) float64; real-valued targets have the training images' mean subtracted.
        pixels: the images as float32 in the space of the training images, for viewing.
        test_accuracy: of the distilled set on all test images; None for real-valued targets.
        natural_accuracy: of n natural images with their labels; None for real-valued targets.
        test_r2, natural_r2: R² instead of accuracy for real-valued targets; None for classes.
        summary: the content of result.json.
        workdir: the folder of all files; a temporary one unless you gave one.
    """

    images: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    test_accuracy: float | None
    natural_accuracy: float | None
    test_r2: float | None
    natural_r2: float | None
    summary: dict[str, Any]
    workdir: pathlib.Path


def distill(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    *,
    workdir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Result:
    """Distils a training set by KIP.

    Args:
        x_train: (N, h, w, c) or (N, h, w); uint8 is scaled to [0, 1], floats are used unchanged.
        y_train: (N,) integer labels from 0; or targets of a regression, float (N,) or (N, C).
        x_test: like `x_train`; only ever evaluated.
        y_test: like `y_train`.
        workdir: a folder for all files, where the same call resumes; by default a temporary one.
        **settings: as the flags of `kipper distill`, such as architecture="fc1", support_size=10,
            learn_labels=True, steps=100.

    Raises:
        UserError: an array or a setting cannot be used.
        KipperError: the run failed; the message says why.
    """
    return _run(DistillSettings, (x_train, y_train, x_test, y_test), workdir, settings)


def solve_labels(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    *,
    workdir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Result:
    """Solves for the labels of natural support images by LS; arguments as for `distill`."""
    return _run(SolveLabelsSettings, (x_train, y_train, x_test, y_test), workdir, settings)


def _run(
    settings_class: type[ComputeSettings],
    arrays: tuple[np.ndarray, ...],
    workdir: str | os.PathLike[str] | None,
    settings: dict[str, Any],
) -> Result:
    known = {field.name for field in run_fields(settings_class)} - set(_OWN_SETTINGS)
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(f"Unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}.")
    folder = pathlib.Path(workdir or tempfile.mkdtemp(prefix="kipper-"))
    with written_for(f"The workdir {folder}", folder):
        folder.mkdir(parents=True, exist_ok=True)
        dataset = folder / "dataset.npz"
        names = ("x_train", "y_train", "x_test", "y_test")
        write_npz(dataset, dict(zip(names, map(np.asarray, arrays), strict=True)))
    result = run(
        RunSettings.of(settings_class, workdir=str(folder), dataset=f"npz:{dataset}", **settings)
    )
    images, labels = load_distilled(Workdir(folder).distilled)
    return Result(
        images=images,
        labels=labels,
        pixels=_pixels(folder, images),
        test_accuracy=_value(result.test, ACCURACY),
        natural_accuracy=_value(result.natural, ACCURACY),
        test_r2=_value(result.test, R_SQUARED),
        natural_r2=_value(result.natural, R_SQUARED),
        summary=result.record(),
        workdir=folder,
    )


def _value(score: Score | None, measure: Measure) -> float | None:
    """The value of a score by a measure; None if it is by another."""
    return score.value if score is not None and score.measure is measure else None


def _pixels(folder: pathlib.Path, images: np.ndarray) -> np.ndarray:
    recipe = load_recipe(Workdir(folder).preprocessing)
    return recipe.preprocessing.invert(images.astype(np.float32))
