"""Pixels of images, scaled for display."""

import numpy as np

from kipper.server.figures import tiles


def test_values_become_pixels_and_what_lies_beyond_is_clipped() -> None:
    images = np.array([-2.0, -1.0, 0.0, 1.0, 3.0]).reshape(1, 1, 5, 1)
    shown = tiles.as_pixels(images, (-1.0, 1.0))
    assert shown.shape == (1, 1, 5, 3)
    assert shown[0, 0].tolist() == [[0] * 3, [0] * 3, [128] * 3, [255] * 3, [255] * 3]


def test_three_channels_keep_their_colour_and_two_become_grey() -> None:
    assert tiles.as_pixels(np.array([[[[1.0, 0.0, 0.5]]]]), (0, 1)).ravel().tolist() == [
        255,
        0,
        128,
    ]
    assert tiles.as_pixels(np.array([[[[1.0, 0.0]]]]), (0, 1)).ravel().tolist() == [128] * 3


def test_tiles_stand_row_by_row_with_white_between() -> None:
    three = np.stack([np.full((2, 2, 3), n, np.uint8) for n in (1, 2, 3)])
    canvas = tiles.tiled(three, 2, gap=1)
    assert canvas[..., 0].tolist() == [
        [1, 1, 255, 2, 2],
        [1, 1, 255, 2, 2],
        [255] * 5,
        [3, 3, 255, 255, 255],
        [3, 3, 255, 255, 255],
    ]


def test_a_pixel_becomes_a_square() -> None:
    one = np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3)
    zoomed = tiles.enlarged(one, 3)
    assert zoomed.shape == (1, 3, 6, 3)
    assert (zoomed[0, :, :3] == [0, 1, 2]).all()
    assert (zoomed[0, :, 3:] == [3, 4, 5]).all()
    assert [tiles.zoom_to(side, 64) for side in (8, 28, 33, 100)] == [8, 2, 1, 1]
