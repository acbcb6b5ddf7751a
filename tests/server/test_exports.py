"""Distilled sets in formats that other programs read."""

import csv
import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from kipper.common.errors import UserError
from kipper.common.preprocessing import fit_preprocessing, preprocessing_from_arrays
from kipper.server import exports
from kipper.server.distilled_set import DistilledSet, MadeSet, Recipe, read_set, set_key
from kipper.server.measures import ACCURACY, Score

RNG = np.random.default_rng(5)
NAMES = ("airplane", "traffic light", "Hündin/3")
# Raw pixels, and the values of black and white.
RANGES = {"unit": (0.0, 1.0), "bytes": (0.0, 255.0), "signed": (-1.0, 1.0)}


def raw_images(channels: int, pixel_range: tuple[float, float], n: int = 40) -> np.ndarray:
    """Multiples of 1/255 between black and white, different for each row, column and channel."""
    black, white = pixel_range
    levels = RNG.integers(0, 256, (n, 7, 5, channels))
    return (black + levels / 255 * (white - black)).astype(np.float32)


def subject(
    preprocess: str = "standard", channels: int = 3, of: str = "unit", n: int = 6
) -> tuple[DistilledSet, Recipe, np.ndarray]:
    """Natural images as a distilled set, its recipe, and the images as raw pixels."""
    raw = raw_images(channels, RANGES[of])
    fitted = fit_preprocessing(preprocess, raw)
    images, labels = fitted.apply(raw[:n]), RNG.normal(size=(n, 3))
    made = MadeSet(set_key(images, labels), 300, Score(ACCURACY, 0.75))
    settings = {"architecture": "convnet", "preprocess": preprocess, "learn_labels": True}
    recipe = Recipe(fitted, NAMES, settings, pixel_range=RANGES[of], sets=(made,), data_hash="f00")
    path = pathlib.Path("distilled.npz")
    return DistilledSet(path, images, labels, recipe, made, None), recipe, raw[:n]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("of", RANGES)
def test_every_pixel_of_a_natural_image_round_trips(
    tmp_path: pathlib.Path, of: str, channels: int
) -> None:
    found, recipe, raw = subject(channels=channels, of=of)
    folder = exports.write_images(found, recipe, tmp_path / "images")
    black, white = RANGES[of]
    files = sorted(name for name in os.listdir(folder) if name.endswith(".png"))
    assert len(files) == len(raw)
    for file, image in zip(files, raw, strict=True):
        with Image.open(folder / file) as picture:
            assert picture.mode == ("L" if channels == 1 else "RGB")
            read = np.asarray(picture).reshape(7, 5, channels)
        np.testing.assert_array_equal(read, np.round(255 * (image - black) / (white - black)))


def test_pixels_beyond_black_and_white_are_clipped_not_wrapped(tmp_path: pathlib.Path) -> None:
    found, recipe, raw = subject()
    beyond = recipe.preprocessing.apply(np.stack([raw[0] + 2, raw[0] - 2]))
    found = DistilledSet(found.path, beyond, found.labels[:2], recipe, None, None)
    folder = exports.write_images(found, recipe, tmp_path / "images")
    for name, value in zip(sorted(folder.glob("*.png")), (255, 0), strict=True):
        with Image.open(name) as picture:
            assert np.asarray(picture).min() == np.asarray(picture).max() == value


def test_file_names_and_the_table_hold_index_class_and_exact_labels(
    tmp_path: pathlib.Path,
) -> None:
    found, recipe, _ = subject(n=12)
    folder = exports.write_images(found, recipe, tmp_path / "images")
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "class", *NAMES]
    classes = found.labels.argmax(axis=1)
    assert [row[1] for row in rows] == [NAMES[c] for c in classes]
    safe = ("airplane", "traffic-light", "Hündin-3")
    assert [row[0] for row in rows] == [f"{i:02}_{safe[c]}.png" for i, c in enumerate(classes)]
    assert sorted(os.listdir(folder)) == sorted([*(row[0] for row in rows), "labels.csv"])
    np.testing.assert_array_equal([[float(v) for v in row[2:]] for row in rows], found.labels)
    assert os.listdir(tmp_path) == ["images"]


def test_images_with_two_channels_are_refused(tmp_path: pathlib.Path) -> None:
    found, recipe, _ = subject(channels=2)
    with pytest.raises(UserError, match="2 channels"):
        exports.write_images(found, recipe, tmp_path / "images")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("preprocess", ["standard", "zca"])
def test_safetensors_hold_exact_arrays_and_the_recipe(
    tmp_path: pathlib.Path, preprocess: str
) -> None:
    found, recipe, raw = subject(preprocess)
    path = exports.write_safetensors(found, recipe, tmp_path / "set.safetensors")
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, expected in (("images", found.images), ("labels", found.labels)):
        assert arrays[name].dtype == expected.dtype
        assert arrays[name].tobytes() == expected.tobytes()
    assert json.loads(metadata["class_names"]) == list(NAMES)
    assert json.loads(metadata["settings"]) == recipe.settings
    assert json.loads(metadata["test_accuracy"]) == 0.75
    own = {k.removeprefix("preprocessing."): v for k, v in arrays.items() if "." in k}
    inverse = own.pop("inverse", None)
    rebuilt = preprocessing_from_arrays({**own, "recipe": np.array(metadata["preprocessing"])})
    np.testing.assert_array_equal(rebuilt.apply(raw), recipe.preprocessing.apply(raw))
    assert (inverse is not None) == (preprocess == "zca")
    if inverse is not None:
        identity = inverse @ own["whitening"]
        np.testing.assert_allclose(identity, np.eye(len(identity)), atol=1e-9)


@pytest.mark.parametrize("of", RANGES)
def test_torchvision_arrays_are_those_of_to_tensor(tmp_path: pathlib.Path, of: str) -> None:
    found, recipe, raw = subject(of=of)
    with np.load(exports.write_torchvision(found, recipe, tmp_path / "set.npz")) as arrays:
        images, labels, soft = arrays["images"], arrays["labels"], arrays["soft_labels"]
        assert arrays["class_names"].tolist() == list(NAMES)
    black, white = RANGES[of]
    assert (images.dtype, images.shape) == (np.float32, (6, 3, 7, 5))
    np.testing.assert_allclose(
        images, ((raw - black) / (white - black)).transpose(0, 3, 1, 2), atol=2e-7
    )
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, found.labels.argmax(axis=1))
    np.testing.assert_array_equal(soft, found.labels.astype(np.float32))
    # Learned images that exceed 0…1 are not clipped, so the set can be restored.
    again = recipe.preprocessing.apply(images.transpose(0, 2, 3, 1) * (white - black) + black)
    np.testing.assert_allclose(again, found.images, rtol=1e-5, atol=1e-5)


def test_targets_of_a_regression_have_no_classes(tmp_path: pathlib.Path) -> None:
    found, recipe, _ = subject()
    mean = np.array([10.0, -2.0, 0.0])
    recipe = dataclasses.replace(recipe, class_names=(), target_mean=mean)
    folder = exports.write_images(found, recipe, tmp_path / "images")
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "class", "target 0", "target 1", "target 2"]
    assert [row[:2] for row in rows] == [[f"{i}.png", ""] for i in range(6)]
    np.testing.assert_array_equal(
        [[float(v) for v in row[2:]] for row in rows], found.labels + mean
    )
    with np.load(exports.write_torchvision(found, recipe, tmp_path / "set.npz")) as arrays:
        assert set(arrays) == {"images", "labels"}
        np.testing.assert_array_equal(arrays["labels"], np.float32(found.labels + mean))
    path = exports.write_safetensors(found, recipe, tmp_path / "set.safetensors")
    with safe_open(path, framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("target_mean"), mean)
        np.testing.assert_array_equal(file.get_tensor("labels"), found.labels)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_released_format_is_the_set_under_a_released_name(
    tmp_path: pathlib.Path, dtype: str
) -> None:
    found, recipe, _ = subject("zca")
    images = found.images.astype(dtype) + np.array(1e-12, dtype)
    made = MadeSet(set_key(images, found.labels), 300, Score(ACCURACY, 0.75))
    recipe = Recipe(recipe.preprocessing, NAMES, recipe.settings, sets=(made,))
    found = DistilledSet(found.path, images, found.labels, recipe, made, None)
    path = exports.write_released(found, recipe, tmp_path)
    assert path.name == "ConvNet_ssize6_zca_l_noaug_ckpt300.npz"
    with np.load(path) as arrays:
        assert set(arrays) == {"images", "labels"}
        assert arrays["images"].tobytes() == images.tobytes()
        assert arrays["labels"].tobytes() == found.labels.tobytes()
    again = read_set(path)
    assert again.made == made
    assert again.name is not None


def test_label_solve_has_the_shorter_name(tmp_path: pathlib.Path) -> None:
    found, recipe, _ = subject()
    made = MadeSet(set_key(found.images, found.labels), None, Score(ACCURACY, 0.75))
    settings = {"architecture": "fc1", "preprocess": "standard", "label_ridge": "paper"}
    recipe = Recipe(recipe.preprocessing, NAMES, settings, sets=(made,))
    found = DistilledSet(found.path, found.images, found.labels, recipe, made, None)
    assert exports.write_released(found, recipe, tmp_path).name == "fc1_ssize6_nozca.npz"
