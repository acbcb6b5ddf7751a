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
    """Writes a PNG: natural images beside what became of them, a row a class, and their labels.

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

    shown = _shown_rows(experiment.support_labels, experiment.num_classes)
    num_rows, num_columns = shown.shape
    cell = 0.75
    figure = Figure(
        figsize=(max(9.0, (2 * num_columns + 6) * cell), max(3.0, num_rows * cell + 1.3)),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        1, 3, gridspec_kw={"width_ratios": [num_columns, num_columns, max(4, num_columns)]}
    )
    class_names = [experiment.class_names[experiment.support_labels[row[0]]] for row in shown]
    invert = experiment.preprocessing.invert
    shown_images = shown.reshape(-1)
    natural = invert(experiment.support[shown_images])
    distilled = invert(images[shown_images].astype(np.float32))
    low, high = float(natural.min()), float(natural.max())
    _draw_grid(axes[0], natural, shown.shape, (low, high), class_names)
    axes[0].set_title(f"natural\ntest accuracy {result['natural_accuracy']:.3f}", fontsize=10)
    _draw_grid(axes[1], distilled, shown.shape, (low, high), class_names)
    steps = f", {result['steps']} steps" if result["steps"] else ""
    axes[1].set_title(
        f"distilled{steps}\ntest accuracy {result['test_accuracy']:.3f}", fontsize=10
    )
    _draw_labels(figure, axes[2], labels[shown_images], shown.shape, experiment.class_names)
    axes[2].set_title("labels\n(rows as the images, left to right)", fontsize=10)

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png", dpi=150)

    write_atomically(path, write)


def _shown_rows(support_labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Indices (classes, images a class) of what fits a picture; the support is sorted by class."""
    by_class = np.arange(len(support_labels)).reshape(num_classes, -1)
    return by_class[:_MOST_CLASSES, :_MOST_PER_CLASS]


def _draw_grid(
    axes: Any,
    images: np.ndarray,
    grid: tuple[int, int],
    limits: tuple[float, float],
    class_names: list[str],
) -> None:
    """Images tiled with a white pixel between them; values outside `limits` are clipped."""
    rows, columns = grid
    _, height, width, channels = images.shape
    scaled = np.clip((images - limits[0]) / (limits[1] - limits[0]), 0, 1)
    canvas = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, channels))
    for index, image in enumerate(scaled):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        canvas[top : top + height, left : left + width] = image
    picture = canvas if channels == 3 else canvas.mean(axis=-1)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([(height + 1) * row + height / 2 for row in range(rows)], class_names)
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)


def _draw_labels(
    figure: Any,
    axes: Any,
    labels: np.ndarray,
    grid: tuple[int, int],
    class_names: tuple[str, ...],
) -> None:
    """A heat map: a row an image, a column a class; zero is white."""
    extreme = float(np.abs(labels).max())
    heat = axes.imshow(
        labels, cmap="RdBu_r", vmin=-extreme, vmax=extreme, aspect="auto", interpolation="nearest"
    )
    figure.colorbar(heat, ax=axes, fraction=0.08)
    rows, columns = grid
    axes.set_yticks(np.arange(rows) * columns + (columns - 1) / 2, [""] * rows)
    if len(class_names) <= _MOST_CLASSES:
        rotation = 0 if max(map(len, class_names)) <= 2 else 90
        axes.set_xticks(range(len(class_names)), class_names, rotation=rotation, fontsize=9)
    axes.tick_params(length=0)
