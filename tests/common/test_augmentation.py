"""Augmentation of raw images."""

import numpy as np
import pytest
import scipy.ndimage

from kipper.common.augmentation import Augmentation, augment, parse_augmentation
from kipper.common.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, size=(40, 9, 7, 3)).astype(np.float32)
ROWS = np.arange(40)


def test_names_strengths_and_what_is_usual() -> None:
    assert parse_augmentation("flip") == Augmentation(flip=1)
    assert parse_augmentation("flip, shift:0.2 ,rotate:15,color") == Augmentation(1, 0.2, 15, 0.1)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "''"),
        ("flop", "'flop'"),
        ("flip:0.5", "flip:0.5"),
        ("shift:0", "shift:0"),
        ("shift:x", "shift:x"),
        ("rotate:nan", "rotate:nan"),
        ("rotate:181", "180"),
        ("flip,flip", "twice"),
        ("color:1.5", "at most 1"),
    ],
)
def test_invalid_names_are_refused(text: str, word: str) -> None:
    with pytest.raises(UserError, match="--augment") as refused:
        parse_augmentation(text)
    assert word in str(refused.value)


def test_an_image_is_the_same_whoever_augments_it_with_whatever_others() -> None:
    augmentation = parse_augmentation("flip,shift,rotate,color")
    together = augment(augmentation, IMAGES, ROWS, seed=3, step=5)
    alone = augment(augmentation, IMAGES[7:8], ROWS[7:8], seed=3, step=5)
    assert np.array_equal(together[7:8], alone)
    assert together.dtype == np.float32
    for seed, step in ((3, 6), (4, 5)):
        assert not np.array_equal(augment(augmentation, IMAGES, ROWS, seed, step), together)


def test_a_flip_mirrors_about_half_the_images_and_nothing_else() -> None:
    flipped = augment(Augmentation(flip=1), IMAGES, ROWS, seed=0, step=0)
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, IMAGES, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 10 <= sum(mirrored) <= 30


def test_a_bright_spot_moves_no_farther_than_the_shift_and_keeps_its_weight() -> None:
    spot = np.zeros((60, 21, 31, 1), np.float32)
    spot[:, 10, 15] = 1.0
    moved = augment(Augmentation(shift=0.2), spot, np.arange(60), seed=0, step=0)
    centres = np.array([scipy.ndimage.center_of_mass(image[..., 0]) for image in moved])
    offsets = (centres - (10, 15)) / (21, 31)
    assert np.abs(offsets).max() <= 0.2
    assert offsets.min() < -0.15
    assert offsets.max() > 0.15
    np.testing.assert_allclose(moved.sum((1, 2, 3)), 1.0, atol=1e-5)


def test_a_rotation_is_that_of_scipy_about_the_centre() -> None:
    image = RNG.uniform(size=(1, 15, 15, 1))
    turned = augment(Augmentation(rotate=40), image, np.array([2]), seed=0, step=0)
    inside = np.s_[5:10, 5:10]
    errors = [
        np.abs(
            scipy.ndimage.rotate(image[0, ..., 0], angle, reshape=False, order=1, mode="nearest")
            - turned[0, ..., 0]
        )[inside].max()
        for angle in np.linspace(-40, 40, 1601)
    ]
    assert min(errors) < 2e-3
    assert np.abs(np.linspace(-40, 40, 1601)[np.argmin(errors)]) > 1


def test_colours_stay_within_the_images_own_range() -> None:
    shaded = augment(Augmentation(color=0.3), IMAGES, ROWS, seed=0, step=0)
    lowest, highest = IMAGES.min((1, 2, 3)), IMAGES.max((1, 2, 3))
    assert (shaded.min((1, 2, 3)) >= lowest - 1e-3).all()
    assert (shaded.max((1, 2, 3)) <= highest + 1e-3).all()
    inner = (IMAGES > 90) & (IMAGES < 165)  # not clipped
    shift = np.where(inner, shaded - IMAGES, np.nan)
    spread = np.nanmax(shift, axis=(1, 2)) - np.nanmin(shift, axis=(1, 2))
    np.testing.assert_allclose(spread, 0, atol=1e-3)  # one number for each channel
    assert np.nanmax(np.abs(shift)) > 40
