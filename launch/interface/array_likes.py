"""Images and labels in containers of any library, as NumPy arrays.

Libraries are known by what their objects can do, so none is imported.
"""

import io
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

import numpy as np

from kipper.common.datasets.pictures import one_of_three_modes, opened_picture, pixels_of
from kipper.common.datasets.pixels import check_unmasked
from kipper.common.datasets.reading import expecting
from kipper.common.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

_MOST_CHANNELS = 4


@runtime_checkable
class Tensor(Protocol):
    """A tensor of torch, on any device."""

    @property
    def shape(self) -> Sequence[int]: ...

    def detach(self) -> "Tensor": ...

    def cpu(self) -> "Tensor": ...

    def float(self) -> "Tensor": ...

    def numpy(self) -> np.ndarray: ...


@runtime_checkable
class _Sparse(Protocol):
    """A sparse matrix of SciPy."""

    def toarray(self) -> np.ndarray: ...


def image_array(images: object, name: str) -> np.ndarray:
    """Images as one array, (N, H, W[, C]) or (N, features).

    Integers other than uint8 become float32. Tensors have their channels moved last; arrays keep
    their layout.

    Args:
        images: an array, tensor, sparse matrix or column of a table; or a sequence of those, of
            pictures of Pillow, of encoded pictures, of paths, or of nested lists of numbers.
        name: the name of the images, for errors.

    Raises:
        UserError: they are none of these, or not all of one shape.
    """
    array = _whole(images, name)
    is_table = hasattr(images, "columns")  # and not polars' column of pictures with their paths
    if is_table and array is not None and array.dtype == object:
        try:
            array = array.astype(np.float32)
        except (TypeError, ValueError):
            raise UserError(
                f"The columns of {name} are not all numbers; give those that are."
            ) from None
    if array is None or array.dtype.kind in "OUS":  # pictures, or their paths
        array = _stacked(_elements(images, name), name)
    if isinstance(images, Tensor) and array.ndim == 4:
        array = _channels_of_tensor_last(array)
    return _real(array)


def label_array(labels: object, name: str) -> np.ndarray:
    """Labels as one array of numbers, booleans or strings, (N,) or (N, k).

    Raises:
        UserError: they are something else, or one is missing.
    """
    array = _whole(labels, name)
    if array is not None and array.dtype != object:
        return array
    found = [
        each.detach().cpu().numpy() if isinstance(each, Tensor) else each
        for each in _elements(_one_column(labels, array), name)
    ]
    for i, each in enumerate(found):
        if each is None or (np.isscalar(each) and each != each):
            raise UserError(f"{name} has no label for image {i}; leave such images out.")
    words = [isinstance(each, str | bytes) for each in found]
    if any(words) and not all(words):
        raise UserError(
            f"{name} holds both {found[words.index(True)]!r} and {found[words.index(False)]!r}; "
            "give labels of one kind."
        )
    try:
        array = np.array(found)
    except ValueError:
        raise UserError(
            f"{name} holds labels of different lengths; give one for each image."
        ) from None
    if array.dtype.kind not in "USbiuf":
        raise UserError(
            f"{name} holds {type(found[0]).__name__}; labels must be numbers, booleans or strings."
        )
    return array


def _one_column(labels: object, array: np.ndarray | None) -> object:
    """The labels, of a table its only column."""
    if array is not None and array.ndim == 2 and array.shape[1] == 1:
        return array.ravel()
    return labels


def is_picture(item: object) -> "TypeGuard[Image.Image]":
    """Whether this is a picture of Pillow."""
    return hasattr(item, "getbands") and hasattr(item, "convert")


def _whole(values: object, name: str) -> np.ndarray | None:
    """Values that are one array in another library; None for sequences of Python."""
    check_unmasked(values, name)
    if isinstance(values, Tensor):
        on_host = values.detach().cpu()
        is_brief = "bfloat16" in str(getattr(values, "dtype", ""))  # unknown to NumPy
        return (on_host.float() if is_brief else on_host).numpy()
    if isinstance(values, _Sparse):
        return values.toarray()
    if hasattr(values, "__array__") and not is_picture(values):
        return np.asarray(values)
    return None


def _elements(values: object, name: str) -> list[object]:
    is_one = isinstance(values, str | bytes | Mapping) or is_picture(values)
    if is_one or not isinstance(values, Iterable):
        raise UserError(f"{name} is {type(values).__name__}; give an array or a list.")
    found = list(values)
    if not found:
        raise UserError(f"{name} is empty; give at least one.")
    return found


def _stacked(items: list[object], name: str) -> np.ndarray:
    """One array of images one by one; grey ones among coloured ones get three channels."""
    arrays = [_pixels(item, f"image {i} of {name}") for i, item in enumerate(items)]
    if any(array.ndim == 3 for array in arrays):
        arrays = [array[..., None] if array.ndim == 2 else array for array in arrays]
        channels = max(array.shape[-1] for array in arrays)
        grey = [array.shape[-1] == 1 for array in arrays]
        arrays = [
            np.repeat(array, channels, axis=-1) if one else array
            for array, one in zip(arrays, grey, strict=True)
        ]
    if all(array.ndim == 4 for array in arrays):  # batches
        return np.concatenate(arrays)
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise UserError(
                f"Image {i} of {name} is of shape {array.shape}, and image 0 of {arrays[0].shape}; "
                "give images of one size."
            )
    return np.stack(arrays)


def _pixels(item: object, name: str) -> np.ndarray:
    """One image: (h, w[, c]), or (features,)."""
    if is_picture(item):
        with expecting(name, "a picture"):
            return _of_deep(pixels_of(one_of_three_modes(item)))
    if isinstance(item, Mapping) and item.get("bytes") is not None:  # encoded, in Parquet files
        item = item["bytes"]
    elif isinstance(item, Mapping) and item.get("path") is not None:
        item = item["path"]
    if isinstance(item, bytes):
        return _decoded(io.BytesIO(item), name)
    if isinstance(item, str | os.PathLike):
        return _decoded(pathlib.Path(item).expanduser(), name)
    if isinstance(item, list | tuple) and len(item) == 1 and isinstance(item[0], Tensor):
        item = item[0]  # of a loader of torch, whose items have no label
    array = _whole(item, name)
    try:
        array = np.array(item) if array is None else array
        if array.dtype == object and array.ndim == 1:  # rows, as cells of tables hold them
            array = np.array([np.asarray(row).tolist() for row in array])
    except ValueError:
        raise UserError(f"{name[0].upper()}{name[1:]} has rows of different lengths.") from None
    if isinstance(item, Tensor) and array.ndim == 3:
        array = _channels_of_tensor_last(array[None])[0]
    elif isinstance(item, Tensor) and array.ndim == 4:
        array = _channels_of_tensor_last(array)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise UserError(f"{name[0].upper()}{name[1:]} is {type(item).__name__}; give numbers.")
    return array


def _decoded(file: pathlib.Path | io.BytesIO, name: str) -> np.ndarray:
    with expecting(name, "a picture"), opened_picture(file) as image:
        return _of_deep(pixels_of(image))


def _of_deep(pixels: np.ndarray) -> np.ndarray:
    """uint8 as they are, uint16 divided by 65535, as pictures of a folder."""
    return pixels if pixels.dtype == np.uint8 else np.divide(pixels, 65535, dtype=np.float32)


def _channels_of_tensor_last(array: np.ndarray) -> np.ndarray:
    """(N, H, W, C) of (N, C, H, W), the order of torch, unless the last axis must be channels."""
    is_last = array.shape[3] <= _MOST_CHANNELS < min(array.shape[1:3])
    return array if is_last else np.moveaxis(array, 1, -1)


def _real(array: np.ndarray) -> np.ndarray:
    is_other = array.dtype.kind in "iu" and array.dtype != np.uint8
    return array.astype(np.float32) if is_other or array.dtype.name == "bfloat16" else array
