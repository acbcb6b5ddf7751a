"""Augmentation of target images in raw pixel space: each image by itself, from its own draw.

The operations are those of the augmentation class in the released notebook of arXiv 2011.00050;
arXiv 2107.13034 (section 5) draws them independently for each image of a target batch.
"""

import dataclasses
import math

import numpy as np

from kipper.common.errors import UserError

# Used where a name comes without a strength; the papers' own strengths are not published.
_USUAL = {"flip": 1.0, "shift": 0.1, "rotate": 10.0, "color": 0.1}
_MOST = {"flip": 1.0, "shift": 1.0, "rotate": 180.0, "color": 1.0}
# Keeps these draws apart from others of the same seed; must never change.
_STREAM = 100


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How much images are changed; 0 leaves that kind of change out.

    Attributes:
        flip: 1 to mirror every other image left to right, on average.
        shift: most of a shift in height and in width, as a share of the side.
        rotate: most of a rotation either way, in degrees.
        color: most that is added to or taken from each channel, as a share of the image's own
            range from its darkest value to its brightest, beyond which nothing goes.
    """

    flip: float = 0.0
    shift: float = 0.0
    rotate: float = 0.0
    color: float = 0.0


def parse_augmentation(text: str) -> Augmentation:
    """The augmentation of `flip,shift:0.1,rotate:10,color:0.1`; strengths may be left out.

    Raises:
        UserError: an unknown name, one that comes twice, or a strength out of range.
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

    What becomes of an image depends on the seed, the step, its row and its pixels, and on nothing
    else: neither on who computes it nor on what it is computed with.

    Args:
        augmentation: what to do.
        images: (n, h, w, c) float.
        rows: (n,) which rows of their set they are.
        seed: of the run.
        step: of the run.

    Returns:
        (n, h, w, c) in the dtype of `images`.
    """
    # All are drawn, whether they are used or not, so that strengths do not change other draws.
    draws = _draws(rows, seed, step, 4 + images.shape[-1])
    mirrored, angles, shifts, tints = draws[:, 0] < 0.5, *np.split(2 * draws[:, 1:] - 1, [1, 3], 1)
    result = images.copy()
    if augmentation.flip:
        result[mirrored] = images[mirrored, :, ::-1]
    if augmentation.rotate or augmentation.shift:
        turns = np.radians(augmentation.rotate * angles[:, 0])
        ways = augmentation.shift * shifts * images.shape[1:3]
        for place, angle, way in zip(result, turns, ways, strict=True):
            place[:] = _moved(place, angle, way)
    if augmentation.color:
        darkest = result.min(axis=(1, 2, 3), keepdims=True)
        brightest = result.max(axis=(1, 2, 3), keepdims=True)
        shades = augmentation.color * tints[:, None, None] * (brightest - darkest)
        np.clip(result + shades, darkest, brightest, out=result, casting="same_kind")
    return result


def _draws(rows: np.ndarray, seed: int, step: int, number: int) -> np.ndarray:
    """(n, number) uniform in [0, 1): lines `rows` of a table that is drawn from its first line on.

    So a line is the same whatever other rows are asked for, and no row needs a generator of its
    own, which would take longer to make than all that is drawn from it.
    """
    random = np.random.default_rng([_STREAM, seed, step])
    return random.random((int(rows.max(initial=-1)) + 1, number))[rows]


def _moved(image: np.ndarray, angle: float, shift: np.ndarray) -> np.ndarray:
    """Turned about its centre and shifted; what comes into view repeats the edge."""
    import scipy.ndimage  # here, so that commands which only read settings start at once

    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    centre = (np.array(image.shape[:2]) - 1) / 2
    offset = centre - turn @ (centre + shift)
    channels = [
        scipy.ndimage.affine_transform(channel, turn, offset, order=1, mode="nearest")
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)
