"""Pictures of distilled sets for notebooks, and figures of results."""

import base64
import html
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from kipper.server.distilled_set import DistilledSet, Recipe
from kipper.server.report.run_files import RunFiles, read_support
from kipper.server.watch.pictures import has_column_per_class, picture, pixels_of
from kipper.server.watch.run_view import ShownImages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_IMAGES = 100
_TILE = 64  # desired side of an image in pixels


def inline_picture(
    images: np.ndarray, classes: np.ndarray | None, recipe: Recipe, caption: str = ""
) -> str:
    """An HTML image of distilled images (n, h, w, c), of which the first hundred are shown.

    The names of the classes (n,) stand above its columns, where each class has one.
    """
    shown = ShownImages(0, images, classes, recipe.class_names, labels_learned=False)
    to_pixels = pixels_of(recipe.preprocessing, recipe.pixel_range)
    png = picture(shown, to_pixels, _MOST_IMAGES, _TILE)
    content, width = base64.b64encode(png).decode(), int.from_bytes(png[16:20], "big")
    alt = f"{min(len(images), _MOST_IMAGES)} distilled images"
    heads = ""
    if classes is not None and has_column_per_class(classes):
        cells = "".join(_head(recipe.class_names[each]) for each in np.unique(classes))
        heads = f'<div style="display: flex; width: {width}px">{cells}</div>'
    image = f'<img src="data:image/png;base64,{content}" alt="{alt}" width="{width}">'
    return f"<div>{heads}{image}<div>{html.escape(caption)}</div></div>"


def _head(name: str) -> str:
    style = "flex: 1; overflow: hidden; text-overflow: ellipsis; text-align: center"
    text = html.escape(name)
    return f'<small style="{style}" title="{text}">{text}</small>'


def figures_of_result(
    run: RunFiles | None, found: DistilledSet
) -> dict[str, Callable[[], "Figure"]]:
    """Functions that draw the figures of a run, or of a set alone, by name."""
    # Imported here: matplotlib takes a second.
    from kipper.server.figures.distilled import SupportSet, distilled_figure
    from kipper.server.report.drawing import figures_of
    from kipper.server.report.writing import activity_of

    if run is not None:
        return figures_of(run, read_support(run), activity_of(run))
    recipe = found.recipe
    if recipe is None:
        return {}
    pixels = recipe.preprocessing.invert(found.images.astype(np.float32))
    names = recipe.class_names
    support = SupportSet(
        initial=pixels,
        limits=recipe.pixel_range,
        labels=found.labels if names else None,
        classes=found.labels.argmax(axis=1) if names else None,
        class_names=names,
    )
    return {"distilled": lambda: distilled_figure(support, "", "", 0)}
