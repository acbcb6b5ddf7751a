"""A distilled set on disk: distilled.npz, and preprocessing.npz with all that gives it meaning.

distilled.npz holds exactly `images` (n, h, w, c) and `labels` (n, C), as the files released with
arXiv 2107.13034 do, in preprocessed space. Without the preprocessing such a file is useless, so it
lies beside it, with the settings by which its accuracy was measured.
"""

import dataclasses
import json
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from kipper.common.errors import UserError
from kipper.common.files import write_npz
from kipper.common.preprocessing import Preprocessing, preprocessing_from_arrays


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a distilled set was made and is to be evaluated.

    Attributes:
        preprocessing: from raw pixels to the space of the distilled images.
        class_names: C of them.
        settings: of the run; dataset, architecture, kernel, kernel_dtype, ridge, limits, …
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    settings: dict[str, Any]


def save_recipe(path: pathlib.Path, recipe: Recipe) -> None:
    """Writes preprocessing.npz, atomically."""
    arrays = {f"preprocessing_{k}": v for k, v in recipe.preprocessing.arrays().items()}
    arrays["class_names"] = np.array(recipe.class_names)
    arrays["settings"] = np.array(json.dumps(recipe.settings))
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
        settings = dict(json.loads(str(arrays["settings"])))
        names = tuple(str(name) for name in arrays["class_names"])
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} does not say how its distilled set was made; it is not a preprocessing.npz "
            "that kipper wrote."
        ) from error
    return Recipe(preprocessing_from_arrays(own), names, settings)


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
