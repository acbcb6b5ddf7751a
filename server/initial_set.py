"""A distilled set that KIP starts from instead of natural images: `--initial`."""

import pathlib

import numpy as np

from kipper.common import linalg
from kipper.common.errors import UserError
from kipper.common.preprocessing import Preprocessing, fit_preprocessing
from kipper.common.settings import DistillSettings
from kipper.server.algorithms import guessed_algorithm
from kipper.server.distilled_set import DistilledSet, Recipe, check_fits, read_set
from kipper.server.experiment import Rows
from kipper.server.learned_set import LearnedSet

# Maximum distance between the results of two preprocessings, relative to the norm of an image. Runs
# that hold out different images differ by up to 0.06 (ZCA) and 0.001 (standard); data sets of which
# one has a tenth of the other's images, by 0.25 or more (ZCA).
_SAME_SPACE = 0.1


def initial_set(settings: DistillSettings, target_mean: np.ndarray | None) -> LearnedSet:
    """The set of `--initial`, with images in the kernel's dtype.

    Targets that were centred by another mean are centred by `target_mean` instead. A file without
    recipe is sorted by the class of the largest label, as the files that kipper writes are.
    """
    found = _read(settings)
    images, labels = found.images.astype(settings.kernel_dtype), found.labels
    if found.recipe is not None and found.recipe.target_mean is not None:
        labels = labels + (found.recipe.target_mean - target_mean)
    if found.recipe is None:
        order = np.argsort(labels.argmax(axis=1), kind="stable")
        images, labels = images[order], labels[order]
    return LearnedSet(images, labels, found.temperature)


def check_initial(settings: DistillSettings, rows: Rows, data_hash: str) -> None:
    """Checks that an initial set has the run's size, data set and preprocessing.

    Without a recipe beside the file, only its name says how it was preprocessed.

    Raises:
        UserError: it does not.
    """
    found = _read(settings)
    check_fits(found, rows.dataset)
    if len(found.images) != settings.support_size:
        raise UserError(
            f"--support_size is {settings.support_size}, but --initial={found.path} holds "
            f"{len(found.images)} images; give --support_size={len(found.images)}."
        )
    preprocess = _preprocess_of(found)
    if preprocess not in (None, settings.preprocess):
        raise UserError(
            f"--preprocess is {settings.preprocess}, but --initial={found.path} was made with "
            f"{preprocess}; give --preprocess={preprocess}."
        )
    if found.recipe is None or _same_statistics(settings, found.recipe, data_hash):
        return
    x_target = rows.dataset.x_train[rows.target]
    ours = fit_preprocessing(settings.preprocess, x_target)
    distance = _distance(ours, found.recipe.preprocessing, x_target[rows.support])
    if distance > _SAME_SPACE:
        raise UserError(
            f"--initial={found.path} was preprocessed by the statistics of other training images, "
            f"which moves this run's support images by {100 * distance:.0f} % of their norm; give "
            "the data set and the --train_limit that it was made with."
        )


def _read(settings: DistillSettings) -> DistilledSet:
    assert settings.initial is not None
    return read_set(pathlib.Path(settings.initial))


def _preprocess_of(found: DistilledSet) -> str | None:
    if found.recipe is not None:
        return str(found.recipe.settings["preprocess"])
    return found.name.preprocess if found.name is not None else None


def _same_statistics(settings: DistillSettings, recipe: Recipe, data_hash: str) -> bool:
    """Whether the recipe certainly has the statistics of the same training images."""
    held_out = guessed_algorithm(recipe.settings).holds_out_validation
    same = all(recipe.settings[k] == getattr(settings, k) for k in ("seed", "train_limit"))
    return held_out and same and recipe.data_hash == data_hash


def _distance(ours: Preprocessing, theirs: Preprocessing, raw: np.ndarray) -> float:
    """The distance between the two results on raw images, relative to their norm."""
    mine = ours.apply(raw)
    apart = linalg.sum_of_squares((theirs.apply(raw) - mine).astype(np.float64))
    return float(np.sqrt(apart / linalg.sum_of_squares(mine.astype(np.float64))))
