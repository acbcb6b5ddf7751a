"""`kipper evaluate --natural`: how well natural training images serve as a support set.

This is the baseline of a distilled set: training images drawn at random, balanced by class, with
their own labels. Classes are scored by accuracy, real-valued targets by R².
"""

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kipper.common.architecture import check_image_side
from kipper.common.datasets import Dataset, limit, load_dataset
from kipper.common.errors import UserError
from kipper.common.files import write_bytes, written_for
from kipper.common.labels import strata, target_values
from kipper.common.preprocessing import Preprocessing, fit_preprocessing
from kipper.common.settings import EvaluateSettings, RunSettings
from kipper.launch.commands.distilled_file import (
    Conditions,
    DistilledFile,
    centred_dataset,
    conditions,
    kernel_on_test,
    overridden,
    read_distilled,
)
from kipper.server import krr, sampling
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.evaluation import score, streamed_scores
from kipper.server.experiment import Split
from kipper.server.measures import Score

# What the report calls the scores of all draws, by the key of the measure.
_ALL_DRAWS = {"accuracy": "test_accuracies", "r2": "test_r2s"}


class Baseline(NamedTuple):
    """The data to draw natural images from, and how to score them.

    Attributes:
        run: the settings to score with.
        dataset: raw, limited as `run` says; targets centred.
        preprocessing: the preprocessing of the data set's images.
        distilled: the set to compare with; None without one.
    """

    run: RunSettings
    dataset: Dataset
    preprocessing: Preprocessing
    distilled: DistilledFile | None


@dataclasses.dataclass(frozen=True)
class NaturalScores:
    """Test scores of one number of natural images, for each draw."""

    support_size: int
    scores: Sequence[Score]

    @property
    def mean(self) -> float:
        return statistics.mean(score.value for score in self.scores)

    def record(self) -> dict[str, Any]:
        """For JSON: mean and standard deviation over draws; the latter is None for one draw."""
        key, values = self.scores[0].measure.key, [score.value for score in self.scores]
        losses = [score.loss for score in self.scores if score.loss is not None]
        several = len(values) > 1
        return {
            "support_size": self.support_size,
            f"test_{key}": statistics.mean(values),
            f"test_{key}_spread": statistics.stdev(values) if several else None,
            "test_loss": statistics.mean(losses),
            "test_loss_spread": statistics.stdev(losses) if several else None,
            _ALL_DRAWS[key]: values,
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A distilled set beside natural images.

    Attributes:
        support_size: number of distilled images.
        test: their score.
        needed: number of natural images with that score; None if more than `most`.
        most: the largest number of natural images that was measured.
    """

    support_size: int
    test: Score
    needed: int | None
    most: int

    def record(self) -> dict[str, Any]:
        """For JSON."""
        test, size = self.test, self.support_size
        number = self.most if self.needed is None else self.needed
        ratio = f"{number / size:,.3g}" if number < 1000 * size else f"{number / size:,.0f}"
        about = "more than" if self.needed is None else "about"
        return {
            "distilled": {
                "support_size": size,
                f"test_{test.measure.key}": test.value,
                "test_loss": test.loss,
            },
            "natural_images_needed": self.needed,
            "finding": (
                f"{size:,} distilled images reach {test.brief}; of natural images that takes "
                f"{about} {number:,}, {ratio} times as many."
            ),
        }


@dataclasses.dataclass(frozen=True)
class NaturalEvaluation:
    """Scores by number of natural images, and the comparison with a distilled set, if any."""

    natural: Sequence[NaturalScores]
    comparison: Comparison | None
    conditions: Conditions
    kernel_pairs: int

    def __repr__(self) -> str:
        """In a few words; `record` has everything."""
        measure = self.natural[0].scores[0].measure
        shown = [measure.text(measure.factor * each.mean) for each in self.natural]
        words = [f"{n.support_size}: {s}" for n, s in zip(self.natural, shown, strict=True)]
        finding = f"; {self.comparison.record()['finding']}" if self.comparison else ""
        return f"<natural images {', '.join(words)}{finding}>"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "natural": [scores.record() for scores in self.natural],
            **(self.comparison.record() if self.comparison is not None else {}),
            **self.conditions,
            "kernel_pairs": self.kernel_pairs,
        }


def evaluate_natural(settings: EvaluateSettings) -> NaturalEvaluation:
    """Scores natural images by number, and draws the figure if `settings` ask for one.

    With a distilled set, everything is as in its run, and the result says how many natural images
    reach the same score.

    Raises:
        UserError: a file or a setting cannot be used, or they do not fit each other.
        NumericalError: a regression could not be solved.
    """
    settings.check()
    sizes = settings.natural_sizes
    baseline = _baseline(settings)
    _check_sizes(sizes, baseline.dataset)
    run, distilled = baseline.run, baseline.distilled
    reached = None
    with kernel_on_test(run, baseline.dataset, baseline.preprocessing) as (pool, kernel, test):
        if distilled is not None:
            kernel.set_support(distilled.images.astype(run.compute.kernel_dtype))
            reached = score(kernel, distilled.labels, run.compute.ridge, test.key, test.labels)
        draws = [natural_scores(kernel, baseline, test, sizes, s) for s in range(settings.seeds)]
    by_size = zip(sizes, zip(*draws, strict=True), strict=True)
    natural = [NaturalScores(size, scores) for size, scores in by_size]
    comparison = None
    if distilled is not None and reached is not None:
        needed = natural_images_for(natural, reached.value)
        comparison = Comparison(len(distilled.images), reached, needed, max(sizes))
    found = NaturalEvaluation(natural, comparison, conditions(run, test), pool.counts.kernel_pairs)
    if settings.figure is not None:
        _draw(pathlib.Path(settings.figure), found, run)
    return found


def natural_scores(
    kernel: DistributedKernel, baseline: Baseline, test: Split, sizes: list[int], seed: int
) -> list[Score]:
    """The score of each number of natural images, from one pass over the largest kernel.

    The draws of a seed are nested, so the smaller kernels are parts of the largest. A run with the
    same seed starts from the same draw, if it holds out no images.

    Args:
        kernel: its support becomes the largest draw.
        baseline: the data and settings.
        test: resident on the workers.
        sizes: in any order, each a multiple of the number of classes.
        seed: the seed of the draws.

    Raises:
        NumericalError: see `krr.Factor`.
    """
    dataset, run = baseline.dataset, baseline.run
    balanced = strata(dataset.y_train, dataset.num_outputs)
    draws = [sampling.support_rows(*balanced, n, seed) for n in sizes]
    largest = max(draws, key=len)
    images = baseline.preprocessing.apply(dataset.x_train[largest])
    kernel.set_support(images.astype(run.compute.kernel_dtype))
    k_ss = kernel.support_matrix()
    labels = target_values(dataset.y_train[largest], dataset.num_outputs)
    coefficients = []
    for rows in draws:
        (inside,) = np.isin(largest, rows).nonzero()
        factor = krr.Factor(k_ss[np.ix_(inside, inside)], run.compute.ridge)
        padded = np.zeros_like(labels)  # images outside the draw contribute nothing
        padded[inside] = factor.solve(labels[inside])
        coefficients.append(padded)
    every = np.arange(len(test.labels))
    return streamed_scores(kernel.target_chunks(test.key, every), coefficients, test.labels)


def _baseline(settings: EvaluateSettings) -> Baseline:
    if settings.distilled is not None:
        file = read_distilled(settings)
        dataset = limit(file.dataset, file.run.compute.train_limit, None)
        return Baseline(file.run, dataset, file.preprocessing, file)
    if not settings.dataset:
        raise UserError("--dataset is required: the natural images come from it.")
    preprocess = settings.preprocess or "standard"
    run = overridden({"preprocess": preprocess}, settings, workdir=".")
    dataset = limit(
        load_dataset(run.compute.dataset, settings.data_dir), None, run.compute.test_limit
    )
    dataset = centred_dataset(dataset)
    check_image_side(run.compute.kernel_spec.architecture, *dataset.x_train.shape[1:3])
    return Baseline(run, dataset, fit_preprocessing(preprocess, dataset.x_train), None)


def _check_sizes(sizes: list[int], dataset: Dataset) -> None:
    """Raises a UserError for a number that cannot be drawn equally from all classes."""
    labels, classes = strata(dataset.y_train, dataset.num_outputs)
    most = classes * int(np.bincount(labels, minlength=classes).min())
    multiple = f"a multiple of the {classes} classes and " if dataset.has_classes else ""
    for size in sizes:
        if size % classes or size > most:
            raise UserError(
                f"--natural has {size}; for {dataset.name!r} it must be {multiple}at most {most}."
            )


def natural_images_for(natural: Sequence[NaturalScores], wanted: float) -> int | None:
    """The number of natural images whose mean score is `wanted`; None if more than were measured.

    Between two measured numbers it is interpolated on a logarithmic scale. If the smallest number
    measured already reaches the score, it is returned.
    """
    below = None
    for entry in sorted(natural, key=lambda entry: entry.support_size):
        if entry.mean >= wanted:
            if below is None:
                return entry.support_size
            share = (wanted - below.mean) / (entry.mean - below.mean)
            ratio = entry.support_size / below.support_size
            return round(below.support_size * math.exp(share * math.log(ratio)))
        below = entry
    return None


def _draw(path: pathlib.Path, found: NaturalEvaluation, run: RunSettings) -> None:
    """Writes the figure; raises a UserError if it cannot be written."""
    # Imported here: matplotlib takes a second.
    from kipper.server.figures.natural import natural_figure
    from kipper.server.figures.style import png

    compute = run.compute
    traits = (compute.dataset, compute.architecture, compute.kernel.upper(), compute.preprocess)
    shared = ", ".join(traits)
    with written_for(f"--figure={path}", path):
        write_bytes(path, png(natural_figure(found.record(), shared)))
