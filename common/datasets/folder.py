"""Data sets from a folder of image files, with one subfolder per class."""

import pathlib
import re
from collections.abc import Sequence

import numpy as np

from kipper.common.datasets.dataset import Dataset, RawSplit, assemble
from kipper.common.datasets.pictures import opened_picture, pixels_of
from kipper.common.datasets.reading import expecting
from kipper.common.errors import UserError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# In a folder without train and test, every fifth image of each class is for testing.
_TEST_STRIDE = 5

_Files = dict[str, list[pathlib.Path]]  # by class, in the order of their paths


def load_folder(location: str, name: str) -> Dataset:
    """A data set from PATH/train/CLASS/* and PATH/test/CLASS/*, or from PATH/CLASS/*.

    Subfolders of CLASS are searched too, and files that are not images are skipped. Without train
    and test, the first image of each class (by path) and every fifth after it are for testing.
    Classes are numbered in the order of their names.

    Images have one channel if all are greyscale, else three (RGB). Pixels are divided by 255, those
    of 16-bit greyscale by 65535. EXIF rotations are applied, and transparent pixels become white.
    The first picture of an animation or of several pages is read. An image with more pixels than
    Pillow's MAX_IMAGE_PIXELS (89 million) is refused before it is decoded.

    Args:
        location: PATH, whose images must have one size; or PATH@SIZE, to crop each image to its
            central square and resize it to SIZE x SIZE pixels (bilinear, antialiased).
        name: the name of the data set.

    Raises:
        UserError: a folder or file is missing, unreadable, or not as above.
    """
    path, at, size = location.rpartition("@")
    if not (at and re.fullmatch(r"[1-9]\d*", size, re.ASCII)):
        path, size = location, ""
    root = pathlib.Path(path)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder, expected one with a subfolder for each class")
    train, test = _find_split(root)
    every = [file for files in (*train.values(), *test.values()) for file in files]
    pixels = _read_alike(every, int(size) if size else None)
    labels = np.repeat(
        [*range(len(train)), *range(len(test))],
        [*map(len, train.values()), *map(len, test.values())],
    )
    count = sum(map(len, train.values()))
    return assemble(
        name,
        RawSplit(pixels[:count], labels[:count], f"{root} (train)"),
        RawSplit(pixels[count:], labels[count:], f"{root} (test)"),
        tuple(train),
    )


def _find_split(root: pathlib.Path) -> tuple[_Files, _Files]:
    """Training and test files, with the same classes in the same order."""
    parts = [root / "train", root / "test"]
    there = [part for part in parts if part.is_dir()]
    if not there:
        files = _find(root)
        for name, of_class in files.items():
            if len(of_class) < 2:
                raise UserError(
                    f"{root / name} holds a single image, expected at least two: one for training "
                    "and one for testing"
                )
        test = {name: of_class[::_TEST_STRIDE] for name, of_class in files.items()}
        for of_class in files.values():
            del of_class[::_TEST_STRIDE]
        return files, test
    for part in parts:
        if part not in there:
            raise UserError(f"{root} holds {there[0].name} but no {part.name}, expected both")
    train, test = map(_find, parts)
    for lacking, having in ((1, train), (0, test)):
        missing = having.keys() - (train, test)[lacking].keys()
        if missing:
            raise UserError(
                f"{parts[lacking]} lacks the class {min(missing)!r}, expected the classes of "
                f"{parts[1 - lacking]}"
            )
    return train, test


def _find(folder: pathlib.Path) -> _Files:
    """The images in each subfolder, which is a class."""
    found: _Files = {}
    for of_class in sorted(path for path in folder.iterdir() if path.is_dir()):
        if _is_hidden(of_class.name):
            continue
        found[of_class.name] = sorted(
            path
            for path in of_class.rglob("*")
            if path.suffix.lower() in _SUFFIXES
            and path.is_file()
            and not any(map(_is_hidden, path.relative_to(of_class).parts))
        )
        if not found[of_class.name]:
            raise UserError(
                f"{of_class} holds no images, expected files that end in {', '.join(_SUFFIXES)}"
            )
    if not found:
        raise UserError(f"{folder} holds no folders, expected one of images for each class")
    return found


def _is_hidden(name: str) -> bool:
    """Whether a file or folder is not meant for people: copies of Jupyter, leftovers of macOS."""
    return name.startswith(".") or name == "__MACOSX"


def _read_alike(files: Sequence[pathlib.Path], size: int | None) -> np.ndarray:
    """The pixels of all files, float32 (N, H, W, 1 or 3) in [0, 1].

    Raises:
        UserError: a file is not an image, or has another size than the first.
    """
    images = []
    for file in files:
        with expecting(file, "an image"):
            images.append(_read(file, size))
        (height, width), (first_height, first_width) = images[-1].shape[:2], images[0].shape[:2]
        if (height, width) != (first_height, first_width):
            raise UserError(
                f"{file} is {width} x {height} pixels and {files[0]} {first_width} x "
                f"{first_height}, expected one size; folder:PATH@{min(first_height, first_width)} "
                "crops and resizes all images to squares of that side"
            )
    channels = max(image.shape[2] for image in images)
    pixels = np.empty((len(images), *images[0].shape[:2], channels), np.float32)
    for row, image in zip(pixels, images, strict=True):
        np.divide(image, np.iinfo(image.dtype).max, out=row, dtype=np.float32)
    return pixels


def _read(file: pathlib.Path, size: int | None) -> np.ndarray:
    """uint8 or uint16 (h, w, 1), or uint8 (h, w, 3)."""
    from PIL import Image, ImageOps

    with opened_picture(file) as image:
        if size is not None:
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        return pixels_of(image)
