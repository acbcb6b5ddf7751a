"""Preprocessing recipes: channel-wise standardisation and regularised ZCA whitening.

A recipe is fitted to the training images once and then applied to all images. Arithmetic is in
float64, and the result is rounded once, to float32.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

from kipper.common import linalg
from kipper.common.errors import UserError

# Regularisation of ZCA in units of the mean eigenvalue, as in the code of arXiv 2107.13034.
ZCA_REGULARISATION = 0.1
# A centred image this small relative to the uncentred one is rounding error: a single float32 pixel
# that differs in its last bit leaves about 1e-9.
_CONSTANT_IMAGE = 1e-12
BLOCK_ROWS = 2048  # 50 MB of CIFAR-10 in float64, of 1.2 GB for all rows
_CACHED_ROWS = 64  # rows that stay in the processor's caches, for elementwise operations


class Preprocessing(Protocol):
    """A fitted recipe."""

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Raw images (N, H, W, C) to preprocessed ones, float32 of the same shape.

        Raises:
            UserError: the images are not of the shape the recipe was fitted to.
        """

    def invert(self, images: np.ndarray) -> np.ndarray:
        """Preprocessed images (N, H, W, C) to raw pixel space, for display; float32.

        Raises:
            UserError: the images are not of the shape the recipe was fitted to.
        """

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays for `preprocessing_from_arrays`; none has object dtype."""


def fit_preprocessing(recipe: str, x_train: np.ndarray) -> Preprocessing:
    """Fits the recipe "standard" or "zca" to raw training images, float32 (N, H, W, C).

    Raises:
        UserError: the recipe is unknown, or all images are constant.
    """
    if recipe not in _RECIPES:
        raise UserError(
            f"the preprocessing {recipe!r} is not known, expected {' or '.join(_RECIPES)}"
        )
    return _RECIPES[recipe].fit(x_train)


def preprocessing_from_arrays(arrays: Mapping[str, np.ndarray]) -> Preprocessing:
    """Rebuilds a recipe from its `arrays()`; other entries are ignored.

    Raises:
        UserError: an array is missing, or the recipe is unknown.
    """
    recipe = str(_entry(arrays, "recipe"))
    if recipe not in _RECIPES:
        raise UserError(
            f"the stored preprocessing {recipe!r} is not known, expected {' or '.join(_RECIPES)}"
        )
    names = [field.name for field in dataclasses.fields(_RECIPES[recipe])]
    return _RECIPES[recipe](**{name: _entry(arrays, name) for name in names})


@dataclasses.dataclass(frozen=True, eq=False)
class Standardisation:
    """Subtracts each channel's mean and divides by its standard deviation.

    Attributes:
        mean: float64 (C,), over all pixels of the training images.
        std: float64 (C,), over the same pixels; 1 for a constant channel.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, x_train: np.ndarray) -> "Standardisation":
        """Takes the statistics of `x_train`."""
        return cls(*channel_statistics(x_train))

    def apply(self, images: np.ndarray) -> np.ndarray:
        """See `Preprocessing.apply`."""
        _check_shape(images, len(self.mean))
        return _blockwise(
            lambda block: _standardised(block, self.mean, self.std), images, _CACHED_ROWS
        )

    def invert(self, images: np.ndarray) -> np.ndarray:
        """See `Preprocessing.invert`."""
        _check_shape(images, len(self.mean))
        return _blockwise(lambda block: block * self.std + self.mean, images, _CACHED_ROWS)

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Preprocessing.arrays`."""
        return {"recipe": np.array("standard"), "mean": self.mean, "std": self.std}


@dataclasses.dataclass(frozen=True, eq=False)
class ZcaWhitening:
    """Regularised ZCA, as in the code of arXiv 2107.13034.

    Channels are standardised, and each image is centred and divided by its norm. The result is
    multiplied by (C + 0.1 tr(C)/d I)^(-1/2), where C is the second moment of the training images at
    that point and d = H W C.

    `invert` is for display only: it restores the typical mean (0) and norm of training images,
    because those of the image are lost.

    Attributes:
        mean: float64 (C,), of each channel.
        std: float64 (C,), of each channel; 1 for a constant channel.
        whitening: float64 (d, d), symmetric; its condition number is below sqrt(1 + 10 d).
        typical_norm: float64 scalar array, the mean of the centred images' norms.
    """

    mean: np.ndarray
    std: np.ndarray
    whitening: np.ndarray
    typical_norm: np.ndarray

    @classmethod
    def fit(cls, x_train: np.ndarray) -> "ZcaWhitening":
        """Takes the statistics of `x_train`.

        Raises:
            UserError: every image is constant.
        """
        mean, std = channel_statistics(x_train)
        size = int(np.prod(x_train.shape[1:]))
        moment = np.zeros((size, size))
        total_norm = 0.0
        for block in _blocks(x_train):
            unit, norms = _centred_unit(_standardised(block, mean, std))
            moment += linalg.gram(unit)
            total_norm += linalg.total(norms)
        if total_norm == 0.0:
            raise UserError("every training image is constant, expected some contrast to whiten")
        whitening = _inverse_root(moment / len(x_train))
        return cls(mean, std, whitening, typical_norm=np.array(total_norm / len(x_train)))

    def apply(self, images: np.ndarray) -> np.ndarray:
        """See `Preprocessing.apply`."""
        _check_shape(images, len(self.mean), len(self.whitening))

        def whiten(block: np.ndarray) -> np.ndarray:
            unit, _ = _centred_unit(_standardised(block, self.mean, self.std))
            return linalg.matmul(unit, self.whitening).reshape(block.shape)

        return _blockwise(whiten, images)

    def invert(self, images: np.ndarray) -> np.ndarray:
        """See `Preprocessing.invert`; restores the typical mean and norm, not the image's."""
        _check_shape(images, len(self.mean), len(self.whitening))

        def unwhiten(block: np.ndarray) -> np.ndarray:
            columns = block.reshape(len(block), -1).T
            unit = linalg.cholesky_solve(self._factor, columns).T
            return (unit * self.typical_norm).reshape(block.shape) * self.std + self.mean

        return _blockwise(unwhiten, images)

    @functools.cached_property
    def _factor(self) -> np.ndarray:
        """The Cholesky factor of `whitening`, which is used often.

        Raises:
            UserError: the matrix, which may come from a file, is not positive definite.
        """
        try:
            return linalg.cholesky(self.whitening)
        except np.linalg.LinAlgError as error:
            raise UserError(
                "the stored whitening matrix has no inverse; expected a positive definite one"
            ) from error

    def inverse(self) -> np.ndarray:
        """The inverse of `whitening`, float64 (d, d)."""
        return linalg.cholesky_solve(self._factor, np.eye(len(self.whitening)))

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Preprocessing.arrays`."""
        return {
            "recipe": np.array("zca"),
            "mean": self.mean,
            "std": self.std,
            "whitening": self.whitening,
            "typical_norm": self.typical_norm,
        }


_RECIPES: Mapping[str, type[Standardisation] | type[ZcaWhitening]] = {
    "standard": Standardisation,
    "zca": ZcaWhitening,
}


def _entry(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise UserError(f"the stored preprocessing lacks the array {name!r}, expected one")
    return arrays[name]


def _check_shape(images: np.ndarray, num_channels: int, size: int | None = None) -> None:
    """Refuses images that are not (N, H, W, num_channels), or not of `size` values if given."""
    shape = images.shape
    if len(shape) != 4 or shape[3] != num_channels or size not in (None, np.prod(shape[1:])):
        expected = f"(images, height, width, {num_channels})"
        fitted = f" with {size} values per image" if size is not None else ""
        raise UserError(f"the images have the shape {shape}, expected {expected}{fitted}")


def _blocks(images: np.ndarray, num_rows: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
    """The images as float64, `num_rows` at a time."""
    for start in range(0, len(images), num_rows):
        yield images[start : start + num_rows].astype(np.float64)


def _blockwise(
    transform: Callable[[np.ndarray], np.ndarray], images: np.ndarray, num_rows: int = BLOCK_ROWS
) -> np.ndarray:
    """`transform` applied to float64 blocks of `images`; float32 of the same shape."""
    result = np.empty(images.shape, np.float32)
    start = 0
    for block in _blocks(images, num_rows):
        result[start : start + len(block)] = transform(block)
        start += len(block)
    return result


def _standardised(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    # Tiled, because numpy's broadcasting would process the channels of one pixel at a time.
    rows = images.reshape(len(images), -1)
    pixels = rows.shape[1] // len(mean)
    standardised = rows - np.tile(mean, pixels)
    standardised /= np.tile(std, pixels)
    return standardised.reshape(images.shape)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float64 (C,) each."""

    def sums(block: np.ndarray) -> np.ndarray:
        return linalg.column_sums(block.reshape(-1, block.shape[3]))

    count = np.prod(images.shape[:3])
    none = np.zeros(images.shape[3])
    mean = sum((sums(block) for block in _blocks(images)), none) / count
    variance = sum((sums((block - mean) ** 2) for block in _blocks(images)), none) / count
    # Sums of up to 2^29 equal float32 values are exact in float64, so the deviation of a constant
    # channel is exactly 0.
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)


def _centred_unit(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred images, divided by their norms: rows (N, d) and norms (N,); 0 if constant."""
    rows = images.reshape(len(images), -1)
    centred = rows - (linalg.row_sums(rows) / rows.shape[1])[:, None]
    norms = np.sqrt(linalg.row_sums(centred**2))
    norms[norms <= _CONSTANT_IMAGE * np.sqrt(linalg.row_sums(rows**2))] = 0.0
    scales = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return centred * scales[:, None], norms


def _inverse_root(moment: np.ndarray) -> np.ndarray:
    """(C + 0.1 tr(C)/d I)^(-1/2), symmetric to the last bit."""
    size = len(moment)
    trace = linalg.total(np.diag(moment))
    moment = moment + ZCA_REGULARISATION * trace / size * np.eye(size)
    eigenvalues, eigenvectors = linalg.eigh(moment)
    half = eigenvectors / np.sqrt(np.sqrt(eigenvalues))
    return linalg.gram(half.T)
