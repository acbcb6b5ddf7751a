"""Images of any layout and scale as float32 with channels last."""

from typing import Literal

import numpy as np

from kipper.common.datasets.dataset import unit_pixels
from kipper.common.errors import UserError

_MOST_CHANNELS = 4  # of pictures: red, green, blue and opacity
_BYTE = 255
_LARGEST = float(np.finfo(np.float32).max)
# Resampled pictures go a little beyond black and white.
_BLACK, _WHITE = -0.5, 1.5
_MUCH = 16  # times white; single features of other rows may go beyond it
# Mean absolute pixels of training and test images on one scale never differ by so much.
_OTHER_SCALE = 30


def like_images(
    train: np.ndarray, test: np.ndarray, source: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Training and test images as float32 (N, H, W, C), on one scale.

    Args:
        train: (N, H, W, C), (N, C, H, W) if that is clear, (N, H, W), or rows of numbers
            (N, features) in both; uint8, bool or floating point.
        test: as `train`.
        source: begins errors and notices.

    Returns:
        Both, rows of numbers as (N, 1, features, 1), and sentences that the user should read.

    Raises:
        UserError: they are other numbers, not finite, or on two scales.
    """
    notices = []
    if train.ndim == test.ndim == 2:
        train, test = (rows[:, None, :, None] for rows in (train, test))
    given = {"x_train": train, "x_test": test}
    if (train.dtype == np.uint8) != (test.dtype == np.uint8):
        notices += _as_bytes(given, source)
    images, of_order = {}, {}
    for key, each in given.items():
        placed, said = channels_last(each)
        images[key] = float_images(placed, key, source)
        if said is not None:
            of_order[key] = said
    if of_order:
        are = "are" if len(of_order) > 1 else "is"
        notices.append(f"{source}: {' and '.join(of_order)} {are} {next(iter(of_order.values()))}")
    if train.dtype != np.uint8 and test.dtype != np.uint8:
        _check_scales(images, source)
    return images["x_train"], images["x_test"], notices


def float_images(images: np.ndarray, key: str, source: str) -> np.ndarray:
    """Images as float32, with a channel axis; `key` and `source` name them in errors.

    Raises:
        UserError: they are neither uint8, bool nor finite floating-point numbers.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype == np.uint8:
        return unit_pixels(images)
    if images.dtype.kind not in "fb":
        raise UserError(f"{source}: {key} is {images.dtype}, expected uint8 or floating point")
    with np.errstate(over="ignore"):
        images = np.ascontiguousarray(images, np.float32)
    unusable = np.flatnonzero(~np.isfinite(images).all(axis=tuple(range(1, images.ndim))))
    if unusable.size:
        others = f" and {unusable.size - 1} more" if unusable.size > 1 else ""
        raise UserError(
            f"{source}: image {unusable[0]} of {key}{others} holds NaN or infinite pixels, "
            "expected finite float32"
        )
    return images


def channel_order(shape: tuple[int, ...]) -> Literal["last", "first", "unclear"]:
    """Where the channels of images (N, a, b, c) are; "unclear" if they may be in both places."""
    if len(shape) != 4 or shape[3] <= _MOST_CHANNELS:
        return "last"
    first, height, width = shape[1:]
    if first <= _MOST_CHANNELS < height and (height == width or first == 3):
        return "first"
    return "unclear" if height == width or first <= _MOST_CHANNELS else "last"


def channels_last(images: np.ndarray) -> tuple[np.ndarray, str | None]:
    """The images with their channels last, and the end of a notice that begins with "they are".

    Images are (N, H, W, C), or (N, C, H, W) if that is clear; of other dimensions they stay.
    """
    order, shape = channel_order(images.shape), images.shape
    if order == "first":
        said = f"of shape {shape}, with channels first; these are moved to the last axis."
        return np.moveaxis(images, 1, -1), said
    if order == "unclear":
        return images, (
            f"of shape {shape}, which is taken as {shape[1]} x {shape[2]} pixels with {shape[3]} "
            "channels; if channels come first, move them to the last axis: transpose(0, 2, 3, 1)."
        )
    return images, None


def on_scale_of(
    images: np.ndarray, pixel_range: tuple[float, float], source: str
) -> tuple[np.ndarray, str | None]:
    """Raw images on the scale of a data set, and notices for the user.

    Args:
        images: of any layout; uint8 is yet to be divided by 255.
        pixel_range: black and white of the data set, as `Dataset.pixel_range`.
        source: begins sentences.

    Raises:
        UserError: uint8 has no meaning on that scale.
    """
    black, white = pixel_range
    of_bytes = pixel_range == (0, _BYTE)
    if images.dtype == np.uint8:
        if of_bytes:
            return images.astype(np.float32), None
        if pixel_range != (0, 1):
            raise UserError(
                f"{source} is uint8, but the training images were from {black:.4g} to "
                f"{white:.4g}; give images on that scale"
            )
        return images, None
    are_rows = images.ndim < 3 or (images.shape[1], *images.shape[3:]) == (1, 1)
    if images.dtype.kind != "f" or not images.size or are_rows:  # features have no white
        return images, None
    lowest, highest = float(images.min()), float(images.max())
    if pixel_range == (0, 1) and lowest >= 0 and _WHITE < highest <= _BYTE:
        said = f"{source} goes up to {highest:.4g}, but the training images went up to 1; "
        if bool((images == np.rint(images)).all()):
            if highest > _BYTE / 2:
                return images / np.float32(_BYTE), said + "it is divided by 255."
            return images, said + "give images on that scale, or divide by 255 if their white is."
        return images, said + "divide it by 255 if its white is 255." if highest > _MUCH else None
    if of_bytes and 0 < highest <= 1:
        said = f"{source} goes up to {highest:.4g}, but the training images went up to 255; "
        return images, said + "multiply it by 255 if its white is 1."
    return images, None


def _as_bytes(given: dict[str, np.ndarray], source: str) -> list[str]:
    """Divides floats from 0 to 255 by 255 in place, as the uint8 beside them will be."""
    key = next(key for key, images in given.items() if images.dtype != np.uint8)
    other = next(other for other in given if other != key)
    floats = given[key]
    if not floats.size or floats.dtype.kind not in "fb":
        return []
    lowest, highest = float(floats.min()), float(floats.max())
    is_finite = lowest >= -_LARGEST and highest <= _LARGEST
    if not is_finite or (lowest >= _BLACK and highest <= _WHITE):
        return []
    if lowest < 0 or highest > _BYTE:
        raise UserError(
            f"{source}: {other} is uint8, which is divided by 255, but {key} is floating point "
            f"from {lowest:.4g} to {highest:.4g}; give both on one scale"
        )
    given[key] = np.divide(floats, _BYTE, dtype=np.float32, casting="same_kind")
    return [
        f"{source}: {key} is floating point from {lowest:.4g} to {highest:.4g} beside uint8 in "
        f"{other}; both are divided by 255."
    ]


def _check_scales(images: dict[str, np.ndarray], source: str) -> None:
    """Refuses floats up to 1 beside floats up to 255 in one data set."""
    if not all(each.size for each in images.values()):
        return
    sizes = {key: float(np.abs(each).mean()) for key, each in images.items()}
    small, large = sorted(sizes, key=lambda key: sizes[key])
    are_bytes = images[large].min() >= 0 and images[large].max() <= _BYTE
    are_units = images[small].min() >= -_WHITE and images[small].max() <= _WHITE
    if are_bytes and are_units and 0 < _OTHER_SCALE * sizes[small] < sizes[large]:
        raise UserError(
            f"{source}: {large} goes up to {images[large].max():.4g}, {small} only up to "
            f"{images[small].max():.4g}; divide {large} by 255"
        )


def check_unmasked(values: object, name: str) -> None:
    """Raises a UserError for a masked array."""
    if isinstance(values, np.ma.MaskedArray):
        raise UserError(
            f"{name} is a masked array, and its masked values would be used too; fill them "
            "first, for example with filled(0)."
        )
