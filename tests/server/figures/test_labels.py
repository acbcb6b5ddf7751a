"""Learned labels beside the original ones."""

import numpy as np
import pytest
from pictures import pixels_of, places_of, shows

from kipper.common.labels import centred_one_hot
from kipper.server.figures import style, tiles
from kipper.server.figures.labels import covariance, labels_figure

RNG = np.random.default_rng(5)


def draw(classes: int, per_class: int, scale: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """The page, and the images on it."""
    labels = np.repeat(np.arange(classes), per_class)
    before = centred_one_hot(labels, classes)
    images = RNG.random((len(labels), 8, 8, 1))
    names = tuple(f"class {c}" for c in range(classes))
    figure = labels_figure(images, before, scale * before, labels, names, (0.0, 1.0))
    return pixels_of(figure), images


def test_the_covariance_is_that_of_numpy() -> None:
    before = centred_one_hot(RNG.integers(0, 4, 50), 4)
    learned = RNG.normal(size=(50, 4))
    both = np.cov(before, learned, rowvar=False, bias=True)
    np.testing.assert_allclose(covariance(before, learned), both[:4, 4:], atol=1e-12)


@pytest.mark.parametrize(("classes", "per_class"), [(2, 1), (10, 1), (3, 30), (20, 2), (100, 1)])
def test_samples_are_drawn_with_both_labels(classes: int, per_class: int) -> None:
    page, images = draw(classes, per_class)
    assert len(page) < 800
    assert page.shape[1] < 1400
    legend = 100
    assert shows(style.BLUE, page) > legend + 50
    if classes <= 20:  # else bars are thinner than a pixel, and their colour mixed
        assert shows(style.ORANGE, page) > legend + 50
    pixels = tiles.enlarged(tiles.as_pixels(images, (0.0, 1.0)), 9)
    assert len(places_of(pixels[0], page)) == 1
    assert len(places_of(pixels[-per_class], page)) == 1


def test_larger_labels_have_longer_bars() -> None:
    """Both are drawn to the same scale, so orange grows and blue shrinks with the labels."""
    small, large = draw(10, 1, scale=1.0)[0], draw(10, 1, scale=3.0)[0]
    legend = 100
    assert shows(style.ORANGE, small) == pytest.approx(shows(style.BLUE, small), rel=0.1)
    ratio = (shows(style.ORANGE, large) - legend) / (shows(style.BLUE, large) - legend)
    assert 2.5 < ratio < 4  # 3, except for pixels that a bar covers half
