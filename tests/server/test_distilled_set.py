"""Distilled sets and their recipes on disk."""

import os
import pathlib
from typing import Any

import numpy as np
import pytest

from kipper.common.errors import UserError
from kipper.common.preprocessing import fit_preprocessing
from kipper.server.distilled_set import (
    MadeSet,
    Recipe,
    load_distilled,
    load_recipe,
    read_set,
    save_distilled,
    save_recipe,
    set_key,
)
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import ACCURACY, Score

RNG = np.random.default_rng(11)
IMAGES = RNG.normal(size=(5, 3, 4, 2)).astype(np.float32)
LABELS = RNG.normal(size=(5, 3))
SETTINGS = {"dataset": "digits", "ridge": 1e-6, "train_limit": None, "learn_labels": False}


def refused(load: Any, path: pathlib.Path, *fragments: str) -> None:
    """Checks that the file is refused in one sentence that names it."""
    with pytest.raises(UserError) as caught:
        load(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for fragment in (str(path), *fragments):
        assert fragment in sentence


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_distilled_set_round_trips(tmp_path: pathlib.Path, dtype: str) -> None:
    path = tmp_path / "distilled.npz"
    save_distilled(path, LearnedSet(IMAGES.astype(dtype), LABELS))
    images, labels, _ = load_distilled(path)
    assert (images.dtype, labels.dtype) == (np.dtype(dtype), np.float64)
    np.testing.assert_array_equal(images, IMAGES.astype(dtype))
    np.testing.assert_array_equal(labels, LABELS)
    assert os.listdir(tmp_path) == ["distilled.npz"]


def test_a_distilled_file_holds_exactly_images_and_labels(tmp_path: pathlib.Path) -> None:
    save_distilled(tmp_path / "distilled.npz", LearnedSet(IMAGES, LABELS))
    with np.load(tmp_path / "distilled.npz", allow_pickle=False) as file:
        assert set(file) == {"images", "labels"}


def test_a_compressed_file_with_single_precision_labels_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "released.npz"
    np.savez_compressed(path, images=IMAGES, labels=LABELS.astype(np.float32), step=np.array(7))
    images, labels, _ = load_distilled(path)
    np.testing.assert_array_equal(images, IMAGES)
    assert labels.dtype == np.float64
    np.testing.assert_array_equal(labels, LABELS.astype(np.float32))


@pytest.mark.parametrize("recipe_name", ["standard", "zca"])
def test_a_recipe_round_trips(tmp_path: pathlib.Path, recipe_name: str) -> None:
    x_train = RNG.normal(size=(20, 3, 4, 2)).astype(np.float32)
    fitted = fit_preprocessing(recipe_name, x_train)
    path = tmp_path / "preprocessing.npz"
    save_recipe(path, Recipe(fitted, ("cat", "Hündin", "2"), SETTINGS))
    found = load_recipe(path)
    assert found.class_names == ("cat", "Hündin", "2")
    assert found.settings == SETTINGS
    np.testing.assert_array_equal(found.preprocessing.apply(x_train), fitted.apply(x_train))
    np.testing.assert_array_equal(found.preprocessing.invert(x_train), fitted.invert(x_train))


def test_a_temperature_is_part_of_the_set(tmp_path):
    path = tmp_path / "distilled.npz"
    save_distilled(path, LearnedSet(IMAGES, LABELS, 0.07))
    found = load_distilled(path)
    assert found.temperature == 0.07
    assert read_set(path).support.temperature == 0.07
    keys = {set_key(IMAGES, LABELS), set_key(*found), set_key(IMAGES, LABELS, 0.08)}
    assert len(keys) == 3
    for wrong in (np.array([0.1, 0.2]), np.array(-1.0), np.array(np.inf), np.array("hot")):
        np.savez(path, images=IMAGES, labels=LABELS, temperature=wrong)
        refused(load_distilled, path, "temperature", "a finite number above 0")


@pytest.mark.parametrize("load", [load_distilled, load_recipe])
@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "text", "cut", "npy"])
def test_a_file_that_is_not_an_npz_is_refused(
    tmp_path: pathlib.Path, load: Any, damage: str
) -> None:
    path = tmp_path / "own.npz"
    if damage == "folder":
        path.mkdir()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("no archive")
    elif damage == "cut":
        save_distilled(path, LearnedSet(IMAGES, LABELS))
        path.write_bytes(path.read_bytes()[:-30])
    elif damage == "npy":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    refused(load, path)


@pytest.mark.parametrize("compressed", [False, True])
def test_no_damaged_byte_causes_a_traceback(tmp_path: pathlib.Path, compressed: bool) -> None:
    path = tmp_path / "own.npz"
    (np.savez_compressed if compressed else np.savez)(path, images=IMAGES, labels=LABELS)
    sound = path.read_bytes()
    refusals = 0
    for position in range(0, len(sound), 3):
        damaged = bytearray(sound)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            load_distilled(path)
        except UserError:
            refusals += 1
    assert refusals > len(sound) / 12


DISTILLED_FAULTS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "flat": ({"images": np.zeros((5, 12))}, "(5, 12)"),
    "classes": ({"labels": np.zeros(5, int)}, "(5,)"),
    "count": ({"labels": np.zeros((4, 3))}, "(4, 3)"),
    "empty": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "(0, 3)"),
    "nan": ({"images": np.full_like(IMAGES, np.nan)}, "finite"),
    "infinite labels": ({"labels": np.full_like(LABELS, np.inf)}, "finite"),
    "words": ({"images": np.full(IMAGES.shape, "a")}, ""),
    "label words": ({"labels": np.full(LABELS.shape, "a")}, ""),
    "objects": ({"images": np.full(IMAGES.shape, None)}, "allow_pickle"),
}


@pytest.mark.parametrize("fault", DISTILLED_FAULTS)
def test_arrays_that_are_not_a_distilled_set_are_refused(
    tmp_path: pathlib.Path, fault: str
) -> None:
    changes, fragment = DISTILLED_FAULTS[fault]
    np.savez(tmp_path / "own.npz", **{"images": IMAGES, "labels": LABELS, **changes})
    refused(load_distilled, tmp_path / "own.npz", fragment)


def test_missing_and_existing_arrays_are_named(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "own.npz", images=IMAGES, x_train=LABELS)
    refused(load_distilled, tmp_path / "own.npz", "lacks labels", "images, x_train")
    refused(load_recipe, tmp_path / "own.npz", "lacks settings, class_names")
    np.savez(tmp_path / "none.npz")
    refused(load_distilled, tmp_path / "none.npz", "lacks images, labels", "no arrays")


RECIPE_FAULTS: dict[str, dict[str, np.ndarray]] = {
    "settings text": {"settings": np.array("not JSON")},
    "settings list": {"settings": np.array("[1]")},
    "one name": {"class_names": np.array("cat")},
    "origin text": {"origin": np.array("{")},
    "origin list": {"origin": np.array("[1]")},
    "sets": {"origin": np.array('{"sets": [{"key": 1}]}')},
    "newer": {"origin": np.array('{"colour": "red"}')},
    "pixel range": {"pixel_range": np.array([0.0])},
}


@pytest.mark.parametrize("fault", RECIPE_FAULTS)
def test_arrays_that_are_not_a_recipe_are_refused(tmp_path: pathlib.Path, fault: str) -> None:
    path = tmp_path / "preprocessing.npz"
    save_recipe(path, Recipe(fit_preprocessing("standard", IMAGES), ("a", "b"), SETTINGS))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, **RECIPE_FAULTS[fault]})
    refused(load_recipe, path)


@pytest.mark.parametrize("missing", ["recipe", "mean", "std"])
def test_a_recipe_without_its_preprocessing_is_refused(
    tmp_path: pathlib.Path, missing: str
) -> None:
    path = tmp_path / "preprocessing.npz"
    save_recipe(path, Recipe(fit_preprocessing("standard", IMAGES), ("a", "b"), SETTINGS))
    with np.load(path) as file:
        arrays = dict(file)
    del arrays[f"preprocessing_{missing}"]
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=missing):
        load_recipe(path)


def recipe_for(*sets: MadeSet) -> Recipe:
    fitted = fit_preprocessing("standard", IMAGES)
    return Recipe(
        fitted,
        ("a", "b", "c"),
        SETTINGS,
        pixel_range=(0.0, 255.0),
        sets=sets,
        data_hash="f00",
        kipper_version="0.1.0",
    )


def written(folder: pathlib.Path, recipe: Recipe | None = None) -> pathlib.Path:
    """A set, and a recipe that lists it as the second of two, unless another is given."""
    made = MadeSet(set_key(IMAGES, LABELS), 7, Score(ACCURACY, 0.75))
    save_distilled(folder / "distilled.npz", LearnedSet(IMAGES, LABELS))
    save_recipe(folder / "preprocessing.npz", recipe or recipe_for(MadeSet("other", 3), made))
    return folder / "distilled.npz"


def test_a_set_is_read_with_its_recipe(tmp_path: pathlib.Path) -> None:
    found = read_set(written(tmp_path))
    np.testing.assert_array_equal(found.images, IMAGES)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert found.made == MadeSet(set_key(IMAGES, LABELS), 7, Score(ACCURACY, 0.75))
    assert found.name is None
    assert found.recipe is not None
    assert found.recipe.pixel_range == (0.0, 255.0)
    assert (found.recipe.data_hash, found.recipe.kipper_version) == ("f00", "0.1.0")


def test_a_set_is_recognised_in_another_file(tmp_path: pathlib.Path) -> None:
    written(tmp_path).unlink()
    np.savez_compressed(tmp_path / "renamed.npz", labels=LABELS, images=IMAGES)
    found = read_set(tmp_path / "renamed.npz")
    assert found.made is not None
    assert found.made.step == 7


@pytest.mark.parametrize("change", ["image", "label", "dtype", "order"])
def test_a_recipe_beside_another_set_is_refused(tmp_path: pathlib.Path, change: str) -> None:
    path = written(tmp_path)
    images, labels = IMAGES.copy(), LABELS.copy()
    if change == "image":
        images[0, 0, 0, 0] = np.nextafter(images[0, 0, 0, 0], np.float32(9))
    elif change == "label":
        labels[-1, -1] += 1e-15
    elif change == "dtype":
        images = images.astype(np.float64)
    elif change == "order":
        images, labels = images[::-1], labels[::-1]
    save_distilled(path, LearnedSet(images, labels))
    refused(read_set, path, str(tmp_path / "preprocessing.npz"), "files of a run together")


def test_the_recipe_of_a_set_takes_precedence_over_that_of_its_folder(
    tmp_path: pathlib.Path,
) -> None:
    path = written(tmp_path, recipe_for(MadeSet("other", 3)))
    refused(read_set, path, "files of a run together")
    save_recipe(
        tmp_path / "distilled.preprocessing.npz",
        recipe_for(MadeSet(set_key(IMAGES, LABELS), 8)),
    )
    found = read_set(path)
    assert found.made is not None
    assert found.made.step == 8


def test_a_recipe_of_an_early_version_is_read(tmp_path: pathlib.Path) -> None:
    path = written(tmp_path)
    with np.load(tmp_path / "preprocessing.npz") as file:
        arrays = {k: v for k, v in file.items() if k not in ("origin", "pixel_range")}
    np.savez(tmp_path / "preprocessing.npz", **arrays)
    found = read_set(path)
    assert found.made is None
    assert found.recipe is not None
    assert (found.recipe.sets, found.recipe.data_hash) == ((), None)
    assert found.recipe.pixel_range == (0.0, 1.0)


def test_a_set_without_a_recipe_is_read(tmp_path: pathlib.Path) -> None:
    written(tmp_path).rename(tmp_path / "ConvNet3_ssize5_zca_l_noaug_ckpt7.npz")
    (tmp_path / "preprocessing.npz").unlink()
    found = read_set(tmp_path / "ConvNet3_ssize5_zca_l_noaug_ckpt7.npz")
    assert (found.recipe, found.made) == (None, None)
    assert found.name is not None
    assert found.name.architecture == "convnet3"


def test_a_name_that_contradicts_the_file_is_refused(tmp_path: pathlib.Path) -> None:
    path = written(tmp_path).rename(tmp_path / "ConvNet_ssize10_zca.npz")
    refused(read_set, path, "5 images", "says 10")
