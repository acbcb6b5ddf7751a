"""Pairs of images that nearly coincide, by family: for tests and benchmarks of float32 kernels."""

import dataclasses
from collections.abc import Callable

import numpy as np

CLOSENESS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def _one_pixel(image: np.ndarray, closeness: float, rng: np.random.Generator) -> np.ndarray:
    pixel = tuple(rng.integers(side) for side in image.shape[:2])
    other = image.copy()
    other[pixel] += closeness
    return other


def _all_pixels(image: np.ndarray, closeness: float, rng: np.random.Generator) -> np.ndarray:
    return image + closeness * rng.normal(size=image.shape)


def _border(image: np.ndarray, closeness: float, rng: np.random.Generator) -> np.ndarray:
    other = _all_pixels(image, closeness, rng)
    other[1:-1, 1:-1] = image[1:-1, 1:-1]
    return other


def _scaled(image: np.ndarray, closeness: float, rng: np.random.Generator) -> np.ndarray:
    del rng
    return image * (1 + closeness)


def _negated(image: np.ndarray, closeness: float, rng: np.random.Generator) -> np.ndarray:
    return -_all_pixels(image, closeness, rng)


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=shape)


def _constant(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return np.full(shape, rng.uniform(0.5, 2))


def _zero(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    del rng
    return np.zeros(shape)


def _grey_levels(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A faint texture of 8 bits, standardised as photographs are."""
    return (rng.integers(227, 234, shape) / 255 - 0.45) / 0.25


def _one_grey_level(image: np.ndarray, closeness: float, rng: np.random.Generator) -> np.ndarray:
    """Of a share `closeness` of the values, and of one at least."""
    changed = rng.random(image.shape) < closeness
    changed.flat[rng.integers(image.size)] = True
    return image + changed / (255 * 0.25)


def _flat_background(level: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A texture in front of a background of one level, from 0 to 1."""
    image = np.full(shape, level)
    height, width = shape[0] // 2, shape[1] // 2
    rows, columns = slice(height // 2, height // 2 + height), slice(width // 2, width // 2 + width)
    image[rows, columns] = rng.uniform(size=image[rows, columns].shape)
    return image


def _black_background(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return _flat_background(0, shape, rng)


def _grey_background(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return _flat_background(rng.uniform(), shape, rng)


def _other_texture(image: np.ndarray, closeness: float, rng: np.random.Generator) -> np.ndarray:
    """Another texture before the same background, `closeness` of which is a grey level brighter."""
    level = image.flat[0]
    noise = (rng.random(image.shape) < closeness) / 255
    noise.flat[rng.integers(image.shape[-1])] = 1 / 255  # in a corner
    other = _flat_background(level, image.shape, rng)
    return np.where(other == level, level + noise, other)


@dataclasses.dataclass(frozen=True)
class Family:
    """How an image is drawn, and how the second of a pair comes from it."""

    first: Callable[[tuple[int, ...], np.random.Generator], np.ndarray]
    second: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


FAMILIES = {
    "one pixel": Family(_normal, _one_pixel),
    "all pixels": Family(_normal, _all_pixels),
    "all but a border equal": Family(_normal, _border),
    "scaled": Family(_normal, _scaled),
    "negated": Family(_normal, _negated),
    "constant": Family(_constant, _all_pixels),
    "constant, scaled": Family(_constant, _scaled),
    "zero": Family(_zero, _all_pixels),
    "8-bit texture": Family(_grey_levels, _one_grey_level),
    "black background": Family(_black_background, _other_texture),
    "grey background": Family(_grey_background, _other_texture),
}


def near_pair(
    family: str,
    closeness: float,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    scale: float = 1.0,
) -> np.ndarray:
    """Two images (2, h, w, c) in float32, `closeness` apart before both are multiplied by `scale`.

    The reference in float64 takes the same numbers.
    """
    drawn = FAMILIES[family]
    first = drawn.first(shape, rng)
    pair = np.stack([first, drawn.second(first, closeness, rng)])
    return (scale * pair).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class PairErrors:
    """Of K and its gradient in float32, against float64.

    Attributes:
        kernel: the largest difference in K, relative to its largest entry.
        distance: 1 - cos of the pair by K, in float64.
        distance_error: the difference of 1 - cos.
        gradient: of the entry of the pair, by both images: the norm of the difference, relative.
    """

    kernel: float
    distance: float
    distance_error: float
    gradient: float


def pair_errors(
    single: tuple[np.ndarray, np.ndarray], double: tuple[np.ndarray, np.ndarray]
) -> PairErrors:
    """From K (2, 2) of a pair, and the gradient of its entry (0, 1), in both dtypes."""
    (kernel, gradient), (exact, exact_gradient) = single, double
    distance = _distance(exact)
    return PairErrors(
        float(np.abs(kernel - exact).max() / np.abs(exact).max()),
        distance,
        abs(_distance(kernel) - distance),
        _relative(gradient, exact_gradient),
    )


def _distance(kernel: np.ndarray) -> float:
    exact = kernel.astype(float)
    return float(1 - exact[0, 1] / np.sqrt(exact[0, 0]) / np.sqrt(exact[1, 1]))


def _relative(got: np.ndarray, want: np.ndarray) -> float:
    got, want = got.astype(float), want.astype(float)
    largest = np.abs(want).max() or 1.0  # squares of the gradients of tiny images underflow
    norm = float(np.linalg.norm(want / largest)) or 1.0
    return float(np.linalg.norm((got - want) / largest)) / norm
