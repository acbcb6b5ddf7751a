"""A distilled set on disk: distilled.npz, and preprocessing.npz with all that gives it meaning.

distilled.npz holds exactly `images` (n, h, w, c) and `labels` (n, C), as the files released with
arXiv 2107.13034 do, in preprocessed space. Without the preprocessing such a file is useless, so it
lies beside it, with the settings by which its accuracy was measured, and knows its sets again by
their contents. A set NAME.npz under a name of its own has NAME.preprocessing.npz.
"""

import dataclasses
import hashlib
import json
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from kipper.common.datasets import Dataset
from kipper.common.errors import UserError
from kipper.common.files import write_npz
from kipper.common.preprocessing import Preprocessing, preprocessing_from_arrays
from kipper.common.wire import content_key
from kipper.server.measures import Score
from kipper.server.released import ReleasedName, parse_released_name


@dataclasses.dataclass(frozen=True)
class MadeSet:
    """A set that a run wrote.

    Attributes:
        key: see `set_key`.
        step: gradient steps made; None for Label Solve.
        test: the score that the run measured; None if it measured none.
    """

    key: str
    step: int | None
    test: Score | None = None

    def record(self) -> dict[str, str | int | float | None]:
        """The set as preprocessing.npz lists it."""
        values: dict[str, float | None] = {"test_accuracy": None, "test_r2": None}
        if self.test is not None:
            values[f"test_{self.test.measure.key}"] = self.test.value
        return {"key": self.key, "step": self.step, **values}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How distilled sets were made and are to be evaluated.

    Attributes:
        preprocessing: from raw pixels to the space of the distilled images.
        class_names: C of them; none for targets of a regression.
        settings: of the run; dataset, architecture, kernel, kernel_dtype, ridge, limits, …
        pixel_range: the raw pixels that are black and white.
        target_mean: what is to be added to predictions to give targets, (C,); None for classes.
        sets: what the run wrote in this space; empty before it is finished, and if an early version
            wrote the recipe.
        data_hash: of the data set, see `dataset_hash`; None likewise.
        kipper_version: which wrote it; None likewise.
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    settings: dict[str, Any]
    pixel_range: tuple[float, float] = (0.0, 1.0)
    target_mean: np.ndarray | None = None
    sets: tuple[MadeSet, ...] = ()
    data_hash: str | None = None
    kipper_version: str | None = None


@dataclasses.dataclass(frozen=True)
class DistilledSet:
    """A distilled set as it was found.

    Attributes:
        path: of its file.
        images: (n, h, w, c), preprocessed.
        labels: (n, C) float64.
        recipe: what lies beside it; None if nothing does.
        made: which of the recipe's sets it is; None if the recipe does not say.
        name: what the file's name says; None if it is not as released files' are.
    """

    path: pathlib.Path
    images: np.ndarray
    labels: np.ndarray
    recipe: Recipe | None
    made: MadeSet | None
    name: ReleasedName | None


def set_key(images: np.ndarray, labels: np.ndarray) -> str:
    """By which a set is known again, whatever its file: SHA-256 of its two arrays."""
    both = content_key(images) + content_key(np.asarray(labels, np.float64))
    return hashlib.sha256(both.encode()).hexdigest()


def read_set(path: pathlib.Path) -> DistilledSet:
    """A distilled.npz, or any file of that form, with its recipe if one lies beside it.

    Raises:
        UserError: a file cannot be read, the recipe is that of other sets, or the file's name
            contradicts what is in it.
    """
    images, labels = load_distilled(path)
    recipe_path = recipe_path_of(path)
    recipe = load_recipe(recipe_path) if recipe_path.exists() else None
    made = None
    if recipe is not None and recipe.sets:
        known = {made.key: made for made in recipe.sets}
        made = known.get(set_key(images, labels))
        if made is None:
            raise UserError(
                f"{path} is none of the sets that {recipe_path} was written for; put the files of "
                "one run side by side, and let a run that was interrupted finish first."
            )
    name = parse_released_name(path.stem)
    if name is not None and name.support_size != len(images):
        raise UserError(
            f"{path} holds {len(images)} images, but its name says {name.support_size}; it must "
            "have been renamed."
        )
    return DistilledSet(path, images, labels, recipe, made, name)


def check_fits(found: DistilledSet, dataset: Dataset) -> None:
    """Refuses a set that cannot be of a data set.

    Raises:
        UserError: its images have another shape, or its labels other or other many classes or
            targets.
    """
    shape, num_outputs = found.images.shape[1:], found.labels.shape[1]
    if shape != dataset.x_test.shape[1:]:
        raise UserError(
            f"{found.path} holds images of shape {shape}, but data set {dataset.name!r} has "
            f"{dataset.x_test.shape[1:]}; give the data set that it was distilled from."
        )
    kind = "classes" if dataset.has_classes else "targets"
    if found.recipe is not None and (found.recipe.target_mean is None) != dataset.has_classes:
        raise UserError(
            f"{found.path} was not made of {kind}, which data set {dataset.name!r} has; give the "
            "data set that it was distilled from."
        )
    if num_outputs != dataset.num_outputs:
        raise UserError(
            f"{found.path} holds labels for {num_outputs} {kind}, but data set {dataset.name!r} "
            f"has {dataset.num_outputs}; give the data set that it was distilled from."
        )


def recipe_path_of(path: pathlib.Path) -> pathlib.Path:
    """Where the recipe of a set lies, or would lie: its own, or that of its folder."""
    own = own_recipe_path(path)
    return own if own.exists() else path.with_name("preprocessing.npz")


def own_recipe_path(path: pathlib.Path) -> pathlib.Path:
    """NAME.preprocessing.npz beside NAME.npz."""
    return path.with_name(f"{path.stem}.preprocessing.npz")


def save_recipe(path: pathlib.Path, recipe: Recipe) -> None:
    """Writes preprocessing.npz, atomically."""
    arrays = {f"preprocessing_{k}": v for k, v in recipe.preprocessing.arrays().items()}
    arrays["class_names"] = np.array(recipe.class_names)
    arrays["settings"] = np.array(json.dumps(recipe.settings))
    arrays["pixel_range"] = np.array(recipe.pixel_range)
    if recipe.target_mean is not None:
        arrays["target_mean"] = recipe.target_mean
    origin = {
        "sets": [made.record() for made in recipe.sets],
        "data_hash": recipe.data_hash,
        "kipper_version": recipe.kipper_version,
    }
    arrays["origin"] = np.array(json.dumps(origin))
    write_npz(path, arrays)


def load_recipe(path: pathlib.Path) -> Recipe:
    """Reads preprocessing.npz.

    Raises:
        UserError: it is not there or not such a file.
    """
    arrays = _load_npz(path, ("settings", "class_names"))
    prefix = "preprocessing_"
    own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    try:
        origin = dict(json.loads(str(arrays.get("origin", "{}"))))
        sets = tuple(
            MadeSet(made["key"], made["step"], Score.read(made, "test"))
            for made in origin.pop("sets", ())
        )
        black, white = arrays.get("pixel_range", (0.0, 1.0))
        return Recipe(
            preprocessing_from_arrays(own),
            class_names=tuple(str(name) for name in arrays["class_names"]),
            settings=dict(json.loads(str(arrays["settings"]))),
            pixel_range=(float(black), float(white)),
            target_mean=arrays.get("target_mean"),
            sets=sets,
            **origin,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} does not say how its distilled set was made; it is not a preprocessing.npz "
            "that this version of kipper can read."
        ) from error


def save_distilled(path: pathlib.Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes distilled.npz, atomically."""
    write_npz(path, {"images": images, "labels": labels})


def load_distilled(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, h, w, c) and float64 labels (n, C) of a distilled.npz or a released KIP file.

    Raises:
        UserError: the file is not there, unreadable, or holds other arrays.
    """
    arrays = _load_npz(path, ("images", "labels"))
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype.kind not in "fiu" or labels.dtype.kind not in "fiu":
        raise UserError(
            f"{path} holds images of dtype {images.dtype} and labels of dtype {labels.dtype}; "
            "expected numbers."
        )
    if images.ndim != 4 or labels.ndim != 2 or len(images) != len(labels) or not len(images):
        raise UserError(
            f"{path} holds images of shape {images.shape} and labels of shape {labels.shape}; "
            "expected (n, height, width, channels) and (n, classes)."
        )
    if not (np.isfinite(images).all() and np.isfinite(labels).all()):
        raise UserError(f"{path} holds values that are not finite; it cannot be evaluated.")
    return images, labels.astype(np.float64)


# What numpy, zipfile and zlib raise for what is no .npz file; AttributeError for a .npy file.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def _load_npz(path: pathlib.Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        # Opened here: np.load leaves a file open that it cannot read.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays_in_file:
            arrays = dict(arrays_in_file)
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}.") from error
    except _UNREADABLE as error:
        raise UserError(f"{path} is not a readable .npz file ({error}).") from error
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}."
        )
    return arrays
