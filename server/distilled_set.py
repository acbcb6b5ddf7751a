"""A distilled set on disk: distilled.npz, and preprocessing.npz, the recipe it was made by.

distilled.npz holds `images` (n, h, w, c) and `labels` (n, C), like the files released with arXiv
2107.13034, in preprocessed space, and `temperature` if one was learned. The recipe holds the
preprocessing, without which such a file is useless, the settings of the run, and the hashes of the
sets that belong to it. The recipe of a set with another name, NAME.npz, is NAME.preprocessing.npz.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from kipper.common.array_files import UNREADABLE, read_npz
from kipper.common.datasets import Dataset, channels_last
from kipper.common.errors import UserError
from kipper.common.files import write_npz
from kipper.common.notices import notice
from kipper.common.preprocessing import Preprocessing, preprocessing_from_arrays
from kipper.common.printable import printable
from kipper.common.strict_json import json_text
from kipper.common.wire import content_key
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import Score
from kipper.server.released import ReleasedName, parse_released_name
from kipper.server.rfad import read_rfad
from kipper.server.run_numerics import RunNumerics, read_numerics


@dataclasses.dataclass(frozen=True)
class MadeSet:
    """A set that a run wrote, as its recipe lists it.

    Attributes:
        step: gradient steps made; None for Label Solve.
        test: the score on all test images; None if the run measured none.
    """

    key: str
    step: int | None
    test: Score | None = None

    def record(self) -> dict[str, str | int | float | None]:
        """The entry of preprocessing.npz."""
        values: dict[str, float | None] = {"test_accuracy": None, "test_r2": None}
        if self.test is not None:
            values[f"test_{self.test.measure.key}"] = self.test.value
        return {"key": self.key, "step": self.step, **values}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How distilled sets were made and are to be evaluated.

    Attributes:
        preprocessing: from raw pixels to the space of the distilled images.
        class_names: C names; empty for targets of a regression.
        settings: the settings of the run, by name.
        pixel_range: the raw pixel values of black and white.
        target_mean: (C,), to be added to predictions of targets; None for classes.
        sets: those that the run wrote; empty before it is finished, and in recipes of early
            versions.
        data_hash: see `dataset_hash`; None in recipes of early versions.
        kipper_version: the version that wrote the recipe; None in those of early versions.
        numerics: the numeric identities of all that computed for the run; None before it is
            finished, and in recipes of early versions.
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    settings: dict[str, Any]
    pixel_range: tuple[float, float] = (0.0, 1.0)
    target_mean: np.ndarray | None = None
    sets: tuple[MadeSet, ...] = ()
    data_hash: str | None = None
    kipper_version: str | None = None
    numerics: RunNumerics | None = None


@dataclasses.dataclass(frozen=True)
class DistilledSet:
    """A distilled set read from its files.

    Attributes:
        images: (n, h, w, c), preprocessed.
        labels: (n, C) float64.
        temperature: see `LearnedSet`.
        recipe: from the file beside it, if there is one.
        made: its entry in the recipe; None if the recipe lists no sets.
        name: parsed, if it is like that of a released file.
        ridge: given in the file itself, as in those of RFAD.
    """

    path: pathlib.Path
    images: np.ndarray
    labels: np.ndarray
    recipe: Recipe | None
    made: MadeSet | None
    name: ReleasedName | None
    temperature: float | None = None
    ridge: float | None = None

    @property
    def support(self) -> LearnedSet:
        return LearnedSet(self.images, self.labels, self.temperature)


def set_key(images: np.ndarray, labels: np.ndarray, temperature: float | None = None) -> str:
    """The identity of a set in any file: SHA-256 of its arrays."""
    found = content_key(images) + content_key(np.asarray(labels, np.float64))
    if temperature is not None:
        found += content_key(np.array(temperature))
    return hashlib.sha256(found.encode()).hexdigest()


def set_file(path: pathlib.Path) -> pathlib.Path:
    """The file of a distilled set: the path, or distilled.npz in the folder of a run."""
    return path / "distilled.npz" if path.is_dir() else path


def read_set(path: pathlib.Path) -> DistilledSet:
    """A distilled.npz, or any file of that form, with the recipe beside it; also by its folder.

    A file without a recipe may have its channels first, which is reported, and scalars of RFAD.

    Raises:
        UserError: a file cannot be read, the recipe belongs to other sets, or the file's name
            contradicts its content.
    """
    path = set_file(path)
    support = load_distilled(path)
    recipe_path = recipe_path_of(path)
    recipe = load_recipe(recipe_path) if recipe_path.exists() else None
    made = None
    if recipe is not None and recipe.sets:
        known = {made.key: made for made in recipe.sets}
        made = known.get(set_key(*support))
        if made is None:
            raise UserError(
                f"{path} is not one of the sets that {recipe_path} belongs to; keep the files of "
                "a run together, and let an interrupted run finish first."
            )
    name = parse_released_name(path.stem)
    if name is not None and name.support_size != len(support.images):
        raise UserError(
            f"{path} holds {len(support.images)} images, but its name says {name.support_size}; "
            "rename it back."
        )
    images, labels, temperature = support
    if recipe is not None:
        return DistilledSet(path, images, labels, recipe, made, name, temperature)
    images, said = channels_last(images)
    if said is not None:
        notice(f"{path}: the images are {said}")
    theirs = read_rfad(path)
    temperature = theirs.temperature if temperature is None else temperature
    return DistilledSet(path, images, labels, None, None, name, temperature, theirs.ridge)


def check_fits(found: DistilledSet, dataset: Dataset) -> None:
    """Checks that a set fits a data set.

    Raises:
        UserError: its images have another shape, or its labels another kind or number of outputs.
    """
    shape, num_outputs = found.images.shape[1:], found.labels.shape[1]
    if shape != dataset.x_test.shape[1:]:
        raise UserError(
            f"{found.path} holds images of shape {shape}, but data set {dataset.name!r} has "
            f"{dataset.x_test.shape[1:]}; give the data set it was distilled from."
        )
    kind = "classes" if dataset.has_classes else "targets"
    if found.recipe is not None and (found.recipe.target_mean is None) != dataset.has_classes:
        raise UserError(
            f"{found.path} was not made from {kind}, which data set {dataset.name!r} has; give the "
            "data set it was distilled from."
        )
    if num_outputs != dataset.num_outputs:
        raise UserError(
            f"{found.path} holds labels for {num_outputs} {kind}, but data set {dataset.name!r} "
            f"has {dataset.num_outputs}; give the data set it was distilled from."
        )


def recipe_path_of(path: pathlib.Path) -> pathlib.Path:
    """The path of a set's recipe: its own if that exists, otherwise that of its folder."""
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
    arrays["origin"] = np.array(json_text(origin))
    if recipe.numerics is not None:  # apart from the origin, whose names early versions know
        arrays["numerics"] = np.array(json.dumps(recipe.numerics.record()))
    write_npz(path, arrays)


def load_recipe(path: pathlib.Path) -> Recipe:
    """Reads preprocessing.npz.

    Raises:
        UserError: the file does not exist, or is not a recipe.
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
        numerics = arrays.get("numerics")
        black, white = arrays.get("pixel_range", (0.0, 1.0))
        return Recipe(
            preprocessing_from_arrays(own),
            class_names=tuple(str(name) for name in arrays["class_names"]),
            settings=dict(json.loads(str(arrays["settings"]))),
            pixel_range=(float(black), float(white)),
            target_mean=arrays.get("target_mean"),
            sets=sets,
            numerics=None if numerics is None else read_numerics(json.loads(str(numerics))),
            **origin,
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} is not a preprocessing.npz that this version of kipper can read."
        ) from error


def save_distilled(path: pathlib.Path, support: LearnedSet) -> None:
    """Writes distilled.npz, atomically."""
    arrays = {"images": support.images, "labels": support.labels}
    if support.temperature is not None:
        arrays["temperature"] = np.array(support.temperature)
    write_npz(path, arrays)


def load_distilled(path: pathlib.Path) -> LearnedSet:
    """The content of a distilled.npz or a released KIP file, with float64 labels.

    Raises:
        UserError: the file does not exist, is unreadable, or holds other arrays.
    """
    arrays = _load_npz(path, ("images", "labels"))
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype.kind not in "fiu" or labels.dtype.kind not in "fiu":
        raise UserError(
            f"{path} holds images of dtype {images.dtype} and labels of dtype {labels.dtype}; "
            "both must be numbers."
        )
    if images.ndim != 4 or labels.ndim != 2 or len(images) != len(labels) or not len(images):
        raise UserError(
            f"{path} holds images of shape {images.shape} and labels of shape {labels.shape}; "
            "these must be (n, height, width, channels) and (n, classes)."
        )
    if not (np.isfinite(images).all() and np.isfinite(labels).all()):
        raise UserError(f"{path} holds values that are not finite, so it cannot be evaluated.")
    temperature = arrays.get("temperature")
    if temperature is None:
        return LearnedSet(images, labels.astype(np.float64))
    is_number = temperature.dtype.kind in "fiu" and temperature.size == 1
    if not (is_number and 0 < temperature.item() < np.inf):
        raise UserError(f"{path} holds a temperature that is not a finite number above 0.")
    return LearnedSet(images, labels.astype(np.float64), float(temperature.item()))


def _load_npz(path: pathlib.Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        arrays = read_npz(path)
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}.") from error
    except UNREADABLE as error:
        raise UserError(
            f"{path} is not a readable .npz file ({printable(str(error), 300)})."
        ) from error
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(missing)}; it holds {', '.join(arrays) or 'no arrays'}."
        )
    return arrays
