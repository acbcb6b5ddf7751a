"""The picture of a distilled set is drawn for every shape of set."""

import os
import pathlib
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from kipper.common.preprocessing import fit_preprocessing
from kipper.server.experiment import Experiment, Split
from kipper.server.figures import draw_distilled

RESULT = {"natural_accuracy": 0.5, "test_accuracy": 0.93, "steps": 1000}


def experiment(
    classes: int, per_class: int, channels: int, names: tuple[str, ...] | None = None
) -> Experiment:
    rng = np.random.default_rng(2)
    images = rng.normal(size=(classes * per_class, 9, 8, channels)).astype(np.float32)
    labels = np.repeat(np.arange(classes), per_class)
    split = Split(images, labels)
    return Experiment(
        target=split,
        test=split,
        validation=split,
        support=images,
        support_labels=labels,
        preprocessing=fit_preprocessing("standard", images),
        class_names=names or tuple(map(str, range(classes))),
    )


def draw(path: pathlib.Path, made: Experiment, **result: Any) -> None:
    rng = np.random.default_rng(4)
    images = made.support + rng.normal(size=made.support.shape)
    labels = rng.normal(size=(len(images), made.num_classes))
    draw_distilled(path, made, images, labels, {**RESULT, **result})


def check_picture(path: pathlib.Path) -> np.ndarray:
    """A whole PNG of sensible size and nothing beside it; returns its pixels."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
    pixels = matplotlib.image.imread(path)
    height, width, _ = pixels.shape
    assert 300 <= height <= 3000
    assert 600 <= width <= 3000
    assert pixels[..., :3].std() > 0.05
    assert os.listdir(path.parent) == [path.name]
    return pixels


@pytest.mark.parametrize(
    ("classes", "per_class", "channels"),
    [
        (10, 1, 1),
        (10, 3, 1),
        (3, 2, 3),
        (2, 1, 3),
        (2, 50, 1),
        (10, 10, 3),
        (30, 1, 1),
        (30, 2, 3),
    ],
)
def test_a_picture_is_drawn(
    tmp_path: pathlib.Path, classes: int, per_class: int, channels: int
) -> None:
    draw(tmp_path / "distilled.png", experiment(classes, per_class, channels))
    check_picture(tmp_path / "distilled.png")


@pytest.mark.parametrize("per_class", [1, 4])
def test_long_class_names_fit(tmp_path: pathlib.Path, per_class: int) -> None:
    names = ("T-shirt/top", "Trouser", "Ankle boot", "automobile", "Sandal")
    draw(tmp_path / "distilled.png", experiment(5, per_class, 3, names))
    check_picture(tmp_path / "distilled.png")


def test_solved_labels_without_steps_are_drawn(tmp_path: pathlib.Path) -> None:
    draw(tmp_path / "distilled.png", experiment(10, 1, 1), steps=0)
    check_picture(tmp_path / "distilled.png")


def test_colours_are_those_of_the_images(tmp_path: pathlib.Path) -> None:
    def is_coloured(channels: int) -> bool:
        path = tmp_path / f"{channels}" / "distilled.png"
        path.parent.mkdir()
        made = experiment(3, 2, channels)
        draw_distilled(path, made, made.support, np.zeros((6, 3)) + 1e-9, RESULT)
        pixels = check_picture(path)
        strip = pixels[:, : pixels.shape[1] // 3, :3]
        return bool((strip.max(-1) - strip.min(-1)).max() > 0.1)

    assert is_coloured(3)
    assert not is_coloured(1)


def test_a_drawing_that_fails_leaves_the_earlier_picture(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "distilled.png"
    path.write_bytes(b"earlier")

    def half_a_picture(self: Figure, file: Any, **options: Any) -> None:
        file.write(b"\x89PNG")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", half_a_picture)
    with pytest.raises(OSError, match="no space"):
        draw(path, experiment(3, 2, 3))
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["distilled.png"]


def test_the_users_own_figures_are_left_alone(tmp_path: pathlib.Path) -> None:
    from matplotlib import pyplot

    backend, numbers = pyplot.get_backend(), pyplot.get_fignums()
    draw(tmp_path / "distilled.png", experiment(3, 2, 3))
    assert (pyplot.get_backend(), pyplot.get_fignums()) == (backend, numbers)
