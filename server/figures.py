"""Pictures of a distilled set."""

import pathlib
from typing import Any, BinaryIO

import numpy as np

from kipper.common.files import write_atomically
from kipper.server.experiment import Experiment

_MOST_PER_CLASS = 10
_MOST_CLASSES = 20


def draw_distilled(
    path: pathlib.Path,
    experiment: Experiment,
    images: np.ndarray,
    labels: np.ndarray,
    result: dict[str, Any],
) -> None:
    """Writes a PNG: natural images, what became of them, and their labels.

    One image a class: two strips above the labels. Several: a row a class, side by side.

    Args:
        path: of the PNG.
        experiment: holds the natural support images, sorted by class, and the way back to pixels.
        images: distilled images (n, h, w, c), preprocessed, in the same order.
        labels: their labels (n, C).
        result: `natural_accuracy`, `test_accuracy` and `steps` go into the titles.
    """
    # The object interface leaves the user's own figures and backend alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    by_class = np.arange(len(labels)).reshape(experiment.num_classes, -1)
    shown = by_class[:_MOST_CLASSES, :_MOST_PER_CLASS]
    classes, per_class = shown.shape
    if per_class == 1:
        figure = Figure(figsize=(max(6.0, classes), 8.5), layout="constrained")
        axes = figure.subplots(3, 1, height_ratios=[1, 1, 4])
        shown = shown.T
    else:
        width = 1.6 + 0.5 * per_class
        size = (2 * width + 4.5, max(3.5, 0.5 * classes + 1.2))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, 3, width_ratios=[width, width, 4.5])
    FigureCanvasAgg(figure)
    invert = experiment.preprocessing.invert
    natural = invert(experiment.support[shown.reshape(-1)])
    limits = float(natural.min()), float(natural.max())
    distilled = invert(images[shown.reshape(-1)].astype(np.float32))
    steps = f", {result['steps']} steps" if result["steps"] else ""
    for axis, pictures, title, accuracy in (
        (axes[0], natural, "natural images and labels", result["natural_accuracy"]),
        (axes[1], distilled, f"distilled{steps}", result["test_accuracy"]),
    ):
        _draw_grid(axis, pictures, shown.shape, limits, experiment.class_names)
        axis.set_title(f"{title}: test accuracy {100 * accuracy:.1f} %", fontsize=10)
    _draw_labels(figure, axes[2], labels[np.sort(shown.reshape(-1))], experiment.class_names)

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png", dpi=120)

    write_atomically(path, write)


def _draw_grid(
    axes: Any,
    images: np.ndarray,
    grid: tuple[int, ...],
    limits: tuple[float, float],
    class_names: tuple[str, ...],
) -> None:
    """Images tiled with a gap between them; values outside `limits` are clipped.

    A single row has a class in each column, several have a class in each row.
    """
    rows, columns = grid
    _, height, width, channels = images.shape
    gap = max(1, height // 14)
    scaled = np.clip((images - limits[0]) / (limits[1] - limits[0]), 0, 1)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels))
    for index, image in enumerate(scaled):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    picture = canvas if channels == 3 else canvas.mean(axis=-1)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    if rows == 1:
        centres = (width + gap) * np.arange(columns) + width / 2
        axes.set_xticks(centres, class_names[:columns], **_slant(class_names))
    else:
        centres = (height + gap) * np.arange(rows) + height / 2
        axes.set_yticks(centres, class_names[:rows])
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)


def _draw_labels(figure: Any, axes: Any, labels: np.ndarray, class_names: tuple[str, ...]) -> None:
    """A heat map: a row an image, a column a class; zero is white."""
    extreme = float(np.abs(labels).max())
    heat = axes.imshow(
        labels, cmap="RdBu_r", vmin=-extreme, vmax=extreme, aspect="auto", interpolation="nearest"
    )
    figure.colorbar(heat, ax=axes, fraction=0.06)
    axes.set_title("label of each image, by class", fontsize=10)
    axes.set(ylabel="image", xticks=[], yticks=[])
    if len(class_names) <= _MOST_CLASSES:
        axes.set_xticks(range(len(class_names)), class_names, **_slant(class_names))
    if len(labels) == len(class_names) <= _MOST_CLASSES:
        axes.set_yticks(range(len(labels)), class_names)
    axes.tick_params(length=0, labelsize=9)


def _slant(class_names: tuple[str, ...]) -> dict[str, Any]:
    """Long names stand slanted, so that neighbours do not touch."""
    if max(map(len, class_names)) <= 3:
        return {}
    return {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
