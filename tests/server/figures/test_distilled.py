"""The figure of a distilled set, for sets of many shapes, compared pixel by pixel."""

import warnings

import matplotlib
import numpy as np
import pytest
from pictures import pixels_of, places_of

from kipper.server.figures import style, tiles
from kipper.server.figures.distilled import SupportSet, distilled_figure

RNG = np.random.default_rng(3)


def support_set(
    classes: int,
    per_class: int,
    side: int = 8,
    channels: int = 1,
    names: tuple[str, ...] | None = None,
    learned: bool = True,
) -> SupportSet:
    """Images whose corner pixels are all different colours."""
    shape = (classes * per_class, side, side, channels)
    return SupportSet(
        initial=RNG.random(shape),
        limits=(0.0, 1.0),
        final=RNG.random(shape),
        labels=RNG.normal(size=(len(range(shape[0])), classes)) if learned else None,
        classes=np.repeat(np.arange(classes), per_class),
        class_names=names or tuple(f"class {c}" for c in range(classes)),
        nearest=RNG.random(shape),
        nearest_classes=np.repeat(np.arange(classes), per_class),
    )


def draw(support: SupportSet, steps: int = 1000) -> np.ndarray:
    return pixels_of(distilled_figure(support, "accuracy 50.0 %", "accuracy 93.0 %", steps))


def zooms(images: np.ndarray | None, row: int, page: np.ndarray) -> list[int]:
    """The whole factors by which an image is enlarged where the page shows it, exactly once."""
    assert images is not None
    pixels = tiles.as_pixels(images[row : row + 1], (0.0, 1.0))
    return [z for z in range(1, 17) if len(places_of(tiles.enlarged(pixels, z)[0], page)) == 1]


@pytest.mark.parametrize(
    ("classes", "per_class", "side", "channels"),
    [
        (10, 1, 8, 1),
        (10, 1, 32, 3),
        (3, 2, 9, 3),
        (2, 1, 28, 3),
        (2, 50, 16, 1),
        (10, 10, 28, 1),
        (20, 1, 32, 3),
        (100, 1, 32, 3),
        (10, 5, 64, 3),
    ],
)
def test_the_first_image_of_each_class_is_there_pixel_by_pixel(
    classes: int, per_class: int, side: int, channels: int
) -> None:
    support = support_set(classes, per_class, side, channels)
    page = draw(support)
    height, width, _ = page.shape
    assert 100 <= height <= 1500
    assert 300 <= width <= 1500
    for number in (0, classes - 1):
        row = number * per_class
        (zoom,) = zooms(support.initial, row, page)
        assert zooms(support.final, row, page) == [zoom]
        assert zooms(support.nearest, row, page) == [zoom]


def test_an_image_stands_below_its_own_column_in_every_strip() -> None:
    support = support_set(4, 1, side=9)
    page = draw(support)
    for images in (support.initial, support.final, support.nearest):
        assert images is not None
        (zoom,) = zooms(images, 0, page)
        shown = tiles.enlarged(tiles.as_pixels(images, (0.0, 1.0)), zoom)
        places = [places_of(tile, page)[0] for tile in shown]
        assert len({top for top, _ in places}) == 1
        assert [left for _, left in places] == sorted(left for _, left in places)


def test_the_heat_map_has_full_colour_where_the_label_is_largest() -> None:
    support = support_set(3, 1)
    assert support.labels is not None
    support.labels[:] = 0.0
    support.labels[1, 2] = 2.0
    support.labels[2, 0] = -2.0
    page = draw(support)
    colours = matplotlib.colormaps[style.DIVERGING]
    for level, columns in ((1.0, 1), (0.0, 2)):
        colour = np.round(255 * np.array(colours(level)[:3])).astype(np.uint8)
        found = np.argwhere((page == colour).all(-1))
        cell = found[found[:, 1] < 400]  # the colour bar is to the right
        assert len(cell) > 500
        assert np.ptp(cell[:, 1]) < 160, columns


def test_labels_that_were_kept_are_not_drawn() -> None:
    kept = draw(support_set(10, 1, learned=False))
    learned = draw(support_set(10, 1))
    assert len(kept) < len(learned) - 100
    assert np.ptp(kept.astype(int), axis=-1).max() == 0  # no colour anywhere


def test_images_that_were_kept_are_drawn_once() -> None:
    support = support_set(10, 2, learned=False)
    page = pixels_of(
        distilled_figure(
            SupportSet(
                support.initial,
                (0.0, 1.0),
                classes=support.classes,
                class_names=support.class_names,
            ),
            "accuracy 50.0 %",
            "accuracy 50.0 %",
            0,
        )
    )
    assert len(zooms(support.initial, 0, page)) == 1
    assert page.shape[1] < draw(support).shape[1] / 2


def test_targets_that_are_no_classes_are_drawn_row_by_row() -> None:
    images = RNG.random((23, 8, 8, 1))
    support = SupportSet(images, (0.0, 1.0), final=1 - images)
    page = pixels_of(distilled_figure(support, "R² 0.10", "R² 0.90", 5))
    assert len(zooms(images, 22, page)) == 1
    assert len(zooms(1 - images, 22, page)) == 1


def test_a_class_without_images_leaves_the_others_in_place() -> None:
    support = support_set(4, 1, side=9)
    classes = np.array([0, 1, 3, 3])
    page = draw(
        SupportSet(
            support.initial,
            (0.0, 1.0),
            support.final,
            support.labels,
            classes,
            support.class_names,
            support.nearest,
            classes,
        )
    )
    assert all(len(zooms(support.final, row, page)) == 1 for row in range(4))


def test_names_of_any_kind_are_drawn_without_a_word() -> None:
    names = ("$x$ and $", "<b>bold</b>", "a very long name of a class", "犬", "two\nlines")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(support_set(5, 1, names=names))
        draw(support_set(5, 4, names=names))


def test_the_users_own_figures_and_settings_are_left_alone() -> None:
    from matplotlib import pyplot

    before = pyplot.get_backend(), pyplot.get_fignums(), dict(matplotlib.rcParams)
    support = support_set(3, 2, channels=3)
    ours = draw(support)
    assert (pyplot.get_backend(), pyplot.get_fignums(), dict(matplotlib.rcParams)) == before
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert np.array_equal(draw(support), ours)
