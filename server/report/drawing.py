"""The figures of a run, from its files."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from kipper.common.labels import are_classes
from kipper.server.figures.curve import curve_figure
from kipper.server.figures.distilled import SupportSet, distilled_figure
from kipper.server.figures.labels import labels_figure
from kipper.server.figures.spectrum import spectrum_figure
from kipper.server.figures.timeline import Activity, timeline_figure
from kipper.server.measures import Score
from kipper.server.report.run_files import RunFiles, SupportFiles


def figures_of(
    run: RunFiles, support: SupportFiles | None, activity: Activity | None
) -> dict[str, Callable[[], Figure]]:
    """Functions that draw the figures, by name and in the order of the report."""
    figures: dict[str, Callable[[], Figure]] = {}
    if support is not None:
        pictures = _Pictures(support)
        after = _after(run, support.step)
        figures["distilled"] = lambda: distilled_figure(
            pictures.support_set(), _in_words(run.initial), after, support.step
        )
        if are_classes(support.targets) and pictures.labels_learned:
            figures["labels"] = pictures.labels_figure
    if run.metrics:
        figures["curve"] = lambda: curve_figure(run.metrics, run.validation, run.natural)
    if run.spectra:
        ridge = run.algorithm.settings.ridge
        figures["spectrum"] = lambda: spectrum_figure(run.spectra, run.metrics, ridge)
    if activity is not None:
        figures["timeline"] = lambda: timeline_figure(activity)
    return figures


def _in_words(score: Score | None) -> str:
    return score.words if score is not None else ""


def _after(run: RunFiles, step: int) -> str:
    """The newest score in words, with its step if that is not `step`."""
    words = _in_words(run.test)
    return words if run.step in (step, None) or not words else f"{words} at step {run.step:,}"


class _Pictures:
    """Images of a run in pixel space, computed on first use."""

    def __init__(self, support: SupportFiles):
        self._support = support
        self._pixels: list[np.ndarray | None] | None = None
        self.labels_learned = not np.allclose(support.labels, support.original_labels, atol=1e-6)

    def support_set(self) -> SupportSet:
        """The argument of `distilled_figure`."""
        support = self._support
        natural, initial, final, nearest = self._in_pixel_space()
        assert natural is not None
        names = support.recipe.class_names if are_classes(support.targets) else ()
        return SupportSet(
            initial=natural if initial is None else initial,
            limits=support.recipe.pixel_range,
            final=final,
            labels=support.labels if self.labels_learned else None,
            classes=support.targets if names else None,
            class_names=names,
            nearest=nearest,
            nearest_classes=support.nearest_targets if names else None,
        )

    def labels_figure(self) -> Figure:
        """See `labels.labels_figure`."""
        support = self._support
        natural, _, final, _ = self._in_pixel_space()
        assert natural is not None
        return labels_figure(
            natural if final is None else final,
            support.original_labels,
            support.labels,
            support.targets,
            support.recipe.class_names,
            support.recipe.pixel_range,
        )

    def _in_pixel_space(self) -> list[np.ndarray | None]:
        """Natural, initial, final and nearest images; None for those equal to the ones before."""
        if self._pixels is None:
            support = self._support
            wanted: list[np.ndarray | None] = [support.natural, None, None, None]
            if not np.array_equal(support.initial, support.natural):
                wanted[1] = support.initial
            if not np.array_equal(support.final, support.initial):
                wanted[2:] = [support.final, support.nearest]
            # All at once, because undoing whitening costs as much for one image as for all.
            sets = [images.astype(np.float32) for images in wanted if images is not None]
            pixels = iter(
                np.split(support.recipe.preprocessing.invert(np.concatenate(sets)), len(sets))
            )
            self._pixels = [None if images is None else next(pixels) for images in wanted]
        return self._pixels
