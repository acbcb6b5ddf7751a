"""A distilled set in formats that other programs read; docs/formats.md describes them.

In pixel space black is 0 and white is 1, for any raw pixels of the data set.
"""

import csv
import json
import pathlib
import re
from typing import BinaryIO

import numpy as np

from kipper.common.errors import UserError
from kipper.common.files import folder_written_whole, write_atomically, write_npz
from kipper.common.preprocessing import ZcaWhitening
from kipper.server.algorithms import guessed_algorithm
from kipper.server.distilled_set import (
    DistilledSet,
    Recipe,
    own_recipe_path,
    save_distilled,
    save_recipe,
)
from kipper.server.released import ReleasedName


def pixels_of(found: DistilledSet, recipe: Recipe) -> np.ndarray:
    """The images (n, h, w, c) float32 in pixel space; learned ones may slightly exceed 0…1."""
    black, white = recipe.pixel_range
    raw = recipe.preprocessing.invert(found.images.astype(np.float32))
    return (raw - np.float32(black)) / np.float32(white - black)


def write_released(found: DistilledSet, recipe: Recipe, folder: pathlib.Path) -> pathlib.Path:
    """Writes the set to `folder` under a name like those of released files, with its recipe."""
    settings, algorithm = recipe.settings, guessed_algorithm(recipe.settings)
    name = ReleasedName(
        # For a user-defined network only the name of the file and the function.
        architecture=pathlib.PurePath(settings["architecture"].partition("#")[0]).name,
        support_size=len(found.images),
        preprocess=settings["preprocess"],
        learned_labels=algorithm.labels_learned,
        augmented=algorithm.augment is not None,
        step=found.made.step if found.made else settings.get("steps"),
    )
    path = folder / f"{name}.npz"
    save_recipe(own_recipe_path(path), recipe)
    save_distilled(path, found.support)
    return path


def write_images(found: DistilledSet, recipe: Recipe, folder: pathlib.Path) -> pathlib.Path:
    """Writes a folder with a PNG for each image, INDEX_CLASS.png, and labels.csv with all labels.

    The class is that of the largest label; targets of a regression have none. Pixels are clipped to
    black and white.

    Raises:
        UserError: the images have neither one channel nor three.
    """
    from PIL import Image

    channels = found.images.shape[3]
    if channels not in (1, 3):
        raise UserError(f"{found.path} holds images with {channels} channels; a PNG needs 1 or 3.")
    pixels = np.round(255 * np.clip(pixels_of(found, recipe), 0, 1)).astype(np.uint8)
    outputs = recipe.class_names or [f"target {i}" for i in range(found.labels.shape[1])]
    classes = _classes(found, recipe)
    digits = len(str(len(pixels) - 1))
    safe = [re.sub(r"[^\w.-]+", "-", f"_{name}") if name else "" for name in classes]
    names = [f"{index:0{digits}}{name}.png" for index, name in enumerate(safe)]
    with folder_written_whole(folder) as unfinished:
        for name, image in zip(names, pixels, strict=True):
            Image.fromarray(image[..., 0] if channels == 1 else image).save(unfinished / name)
        with open(unfinished / "labels.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["file", "class", *outputs])
            rows = zip(names, classes, _values(found, recipe).tolist(), strict=True)
            table.writerows([name, of, *label] for name, of, label in rows)
    return folder


def write_safetensors(found: DistilledSet, recipe: Recipe, path: pathlib.Path) -> pathlib.Path:
    """Writes images, labels and the arrays of the preprocessing; everything else as metadata.

    A whitening matrix comes with its inverse. `target_mean` is to be added to predictions, which
    divided by `temperature` are logits.
    """
    from safetensors.numpy import save

    own = recipe.preprocessing.arrays()
    if isinstance(recipe.preprocessing, ZcaWhitening):
        own = {**own, "inverse": recipe.preprocessing.inverse()}
    numbers = {f"preprocessing.{k}": v for k, v in own.items() if v.dtype.kind == "f"}
    tensors = {"images": found.images, "labels": found.labels, **numbers}
    if recipe.target_mean is not None:
        tensors["target_mean"] = recipe.target_mean
    if found.temperature is not None:
        tensors["temperature"] = np.array(found.temperature)
    metadata = {
        "preprocessing": str(own["recipe"]),
        "class_names": json.dumps(recipe.class_names, ensure_ascii=False),
        "pixel_range": json.dumps(recipe.pixel_range),
        "settings": json.dumps(recipe.settings),
        **{
            name: json.dumps(found.made.record()[name] if found.made else None)
            for name in ("test_accuracy", "test_r2")
        },
        "data_hash": json.dumps(recipe.data_hash),
        "kipper_version": json.dumps(recipe.kipper_version),
    }
    written = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata)

    def write(file: BinaryIO) -> None:
        file.write(written)

    write_atomically(path, write)
    return path


def write_torchvision(found: DistilledSet, recipe: Recipe, path: pathlib.Path) -> pathlib.Path:
    """Writes an .npz with images as torchvision's `ToTensor` returns them, and integer classes.

    `images` float32 (n, c, h, w) in pixel space, not clipped; `labels` int64 (n,); `soft_labels`
    float32 (n, C); `class_names` (C,). For a regression only `images` and `labels`, the targets,
    float32 (n, C).
    """
    arrays = {"images": np.ascontiguousarray(pixels_of(found, recipe).transpose(0, 3, 1, 2))}
    values = _values(found, recipe).astype(np.float32)
    if recipe.class_names:
        arrays |= {"labels": found.labels.argmax(axis=1), "soft_labels": values}
        arrays["class_names"] = np.array(recipe.class_names)
    else:
        arrays["labels"] = values
    write_npz(path, arrays)
    return path


def _classes(found: DistilledSet, recipe: Recipe) -> list[str]:
    """The class name of the largest label of each image; empty for targets of a regression."""
    if not recipe.class_names:
        return [""] * len(found.labels)
    return [recipe.class_names[c] for c in found.labels.argmax(axis=1)]


def _values(found: DistilledSet, recipe: Recipe) -> np.ndarray:
    """The labels (n, C), or the targets of a regression, whose labels are centred."""
    return found.labels if recipe.target_mean is None else found.labels + recipe.target_mean
