"""Augmentation of target images in raw pixel space, drawn independently for each image.

The operations are those in the released notebook of arXiv 2011.00050; arXiv 2107.13034 (section 5)
draws them independently for each image of a target batch.
"""

import dataclasses
import math

import numpy as np

from kipper.common.elementary import cos_sin
from kipper.common.errors import UserError

# Default strengths; those of the papers are not published.
_USUAL = {"flip": 1.0, "shift": 0.1, "rotate": 10.0, "color": 0.1}
_MOST = {"flip": 1.0, "shift": 1.0, "rotate": 180.0, "color": 1.0}
# Separates these draws from others with the same seed; must never change.
_STREAM = 100


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The strength of each operation; 0 for none.

    Attributes:
        flip: 1 to mirror images left to right with probability 1/2.
        shift: the largest shift in height and width, as a fraction of the side.
        rotate: the largest rotation in either direction, in degrees.
        color: the largest change of each channel, as a fraction of the range of the image's values;
            results are clipped to that range.
    """

    flip: float = 0.0
    shift: float = 0.0
    rotate: float = 0.0
    color: float = 0.0


def parse_augmentation(text: str) -> Augmentation:
    """Parses `flip,shift:0.1,rotate:10,color:0.1`; strengths are optional.

    Raises:
        UserError: an unknown or repeated name, or a strength out of range.
    """
    strengths: dict[str, float] = {}
    for item in text.split(","):
        name, colon, number = item.strip().partition(":")
        if name not in _USUAL or (name == "flip" and colon):
            raise UserError(
                f"--augment has {item.strip()!r}; it takes flip, shift:SHARE, rotate:DEGREES and "
                "color:SHARE, as in flip,shift:0.1,rotate:10."
            )
        if name in strengths:
            raise UserError(f"--augment has {name} twice; give it once.")
        strengths[name] = _strength(name, number) if colon else _USUAL[name]
    return Augmentation(**strengths)


def _strength(name: str, number: str) -> float:
    try:
        strength = float(number)
    except ValueError:
        strength = math.nan
    if not 0 < strength <= _MOST[name]:
        raise UserError(
            f"--augment has {name}:{number}; its strength is a number above 0, at most "
            f"{_MOST[name]:g}."
        )
    return strength


def augment(
    augmentation: Augmentation, images: np.ndarray, rows: np.ndarray, seed: int, step: int
) -> np.ndarray:
    """Augmented copies of raw images.

    Images are (n, h, w, c) float, and `rows` (n,) are their rows in the row set. Each result
    depends on the seed, the step, its row and its pixels only, not on the rest of the batch.
    """
    # All are drawn, used or not, so that the strength of one operation does not affect others.
    draws = _draws(rows, seed, step, 4 + images.shape[-1])
    mirrored, angles, shifts, tints = draws[:, 0] < 0.5, *np.split(2 * draws[:, 1:] - 1, [1, 3], 1)
    result = images.copy()
    if augmentation.flip:
        result[mirrored] = images[mirrored, :, ::-1]
    if augmentation.rotate or augmentation.shift:
        turns = cos_sin(np.pi / 180 * (augmentation.rotate * angles[:, 0]))
        ways = augmentation.shift * shifts * images.shape[1:3]
        for place, cos, sin, way in zip(result, *turns, ways, strict=True):
            place[:] = _moved(place, cos, sin, way)
    if augmentation.color:
        darkest = result.min(axis=(1, 2, 3), keepdims=True)
        brightest = result.max(axis=(1, 2, 3), keepdims=True)
        shades = augmentation.color * tints[:, None, None] * (brightest - darkest)
        np.clip(result + shades, darkest, brightest, out=result, casting="same_kind")
    return result


def _draws(rows: np.ndarray, seed: int, step: int, number: int) -> np.ndarray:
    """(n, number), uniform in [0, 1): rows of a table that is drawn from its first row on.

    A row's numbers thus do not depend on the other rows. A generator for each row would be slower.
    """
    random = np.random.default_rng([_STREAM, seed, step])
    return random.random((int(rows.max(initial=-1)) + 1, number))[rows]


def _moved(image: np.ndarray, cos: float, sin: float, shift: np.ndarray) -> np.ndarray:
    """The image rotated about its centre and shifted; edges are repeated outwards."""
    import scipy.ndimage  # slow to import; commands that only read settings do not need it

    centre = (np.array(image.shape[:2]) - 1) / 2
    down, right = centre + shift
    # Not by a product of matrices, whose last bits depend on the processor.
    offset = centre - (cos * down - sin * right, sin * down + cos * right)
    turn = np.array([[cos, -sin], [sin, cos]])
    channels = [
        scipy.ndimage.affine_transform(channel, turn, offset, order=1, mode="nearest")
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)
