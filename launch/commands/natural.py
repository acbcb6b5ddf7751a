"""`kipper evaluate --natural`: how good natural training images are as support.

The baseline of a distilled set: so many images of the training set, drawn at random, equally many
of each class, with their own labels. They are judged by accuracy, or by R² for targets.
"""

import math
import pathlib
import statistics
from typing import Any, NamedTuple

import numpy as np

from kipper.common.architecture import check_image_side
from kipper.common.datasets import Dataset, limit, load_dataset
from kipper.common.errors import UserError
from kipper.common.files import write_bytes
from kipper.common.labels import strata, target_values
from kipper.common.preprocessing import Preprocessing, fit_preprocessing
from kipper.common.settings import EvaluateSettings, RunSettings
from kipper.launch.commands.distilled_file import (
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
from kipper.server.measures import ACCURACY, Score

# What the values of all draws are called in the report, by the key of the measure.
_ALL_DRAWS = {"accuracy": "test_accuracies", "r2": "test_r2s"}


class Baseline(NamedTuple):
    """What is evaluated.

    Attributes:
        run: the settings to do it by.
        dataset: raw, limited as `run` says; targets centred.
        preprocessing: of the data set's images.
        distilled: the set to compare with; None without one.
    """

    run: RunSettings
    dataset: Dataset
    preprocessing: Preprocessing
    distilled: DistilledFile | None


def evaluate_natural(settings: EvaluateSettings) -> dict[str, Any]:
    """Scores and losses by number of natural images; draws the figure, if one is asked for.

    With a distilled set, all is as in its run, and the report says how many natural images are as
    good.

    Raises:
        UserError: a file or a setting cannot be used, or they do not fit each other.
        NumericalError: a regression could not be solved.
    """
    settings.check()
    sizes = settings.natural_sizes
    subject = _subject(settings)
    _check_sizes(sizes, subject.dataset)
    run, distilled = subject.run, subject.distilled
    report: dict[str, Any] = {}
    with kernel_on_test(run, subject.dataset, subject.preprocessing) as (pool, kernel, test):
        if distilled is not None:
            kernel.set_support(distilled.images.astype(run.compute.kernel_dtype))
            reached = score(kernel, distilled.labels, run.compute.ridge, test.key, test.labels)
        draws = [natural_scores(kernel, subject, test, sizes, s) for s in range(settings.seeds)]
    natural = [_summary(sizes[i], [draw[i] for draw in draws]) for i in range(len(sizes))]
    report["natural"] = natural
    if distilled is not None:
        report |= _comparison(natural, reached, len(distilled.images))
    if settings.figure is not None:
        _draw(pathlib.Path(settings.figure), report, run)
    return {**report, **conditions(run, test), "kernel_pairs": pool.counts.kernel_pairs}


def natural_scores(
    kernel: DistributedKernel, subject: Baseline, test: Split, sizes: list[int], seed: int
) -> list[Score]:
    """The score of each number of natural images, by one pass over the kernel of the largest.

    The draws of one seed lie within each other, so the smaller ones' kernels are parts of the
    largest one's. They are what a run with that seed starts from, if it held out no images.

    Args:
        kernel: its support becomes the largest draw.
        subject: what is evaluated.
        test: resident on the workers.
        sizes: in any order, each a multiple of the number of classes.
        seed: of the draws.

    Raises:
        NumericalError: see `krr.Factor`.
    """
    dataset, run = subject.dataset, subject.run
    balanced = strata(dataset.y_train, dataset.num_outputs)
    draws = [sampling.support_rows(*balanced, n, seed) for n in sizes]
    largest = max(draws, key=len)
    images = subject.preprocessing.apply(dataset.x_train[largest])
    kernel.set_support(images.astype(run.compute.kernel_dtype))
    k_ss = kernel.support_matrix()
    labels = target_values(dataset.y_train[largest], dataset.num_outputs)
    coefficients = []
    for rows in draws:
        (inside,) = np.isin(largest, rows).nonzero()
        factor = krr.Factor(k_ss[np.ix_(inside, inside)], run.compute.ridge)
        padded = np.zeros_like(labels)  # what is not in the draw predicts nothing
        padded[inside] = factor.solve(labels[inside])
        coefficients.append(padded)
    every = np.arange(len(test.labels))
    return streamed_scores(kernel.target_chunks(test.key, every), coefficients, test.labels)


def _subject(settings: EvaluateSettings) -> Baseline:
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
    """Raises a UserError for a number that cannot be drawn equally of all classes."""
    labels, classes = strata(dataset.y_train, dataset.num_outputs)
    most = classes * int(np.bincount(labels, minlength=classes).min())
    multiple = f"a multiple of the {classes} classes and " if dataset.has_classes else ""
    for size in sizes:
        if size % classes or size > most:
            raise UserError(
                f"--natural has {size}; for {dataset.name!r} it must be {multiple}at most {most}."
            )


def _summary(size: int, scores: list[Score]) -> dict[str, Any]:
    """Mean and standard deviation over draws; no deviation of a single one."""
    key, values = scores[0].measure.key, [one.value for one in scores]
    losses = [one.loss for one in scores if one.loss is not None]
    several = len(scores) > 1
    return {
        "support_size": size,
        f"test_{key}": statistics.mean(values),
        f"test_{key}_spread": statistics.stdev(values) if several else None,
        "test_loss": statistics.mean(losses),
        "test_loss_spread": statistics.stdev(losses) if several else None,
        _ALL_DRAWS[key]: values,
    }


def _comparison(natural: list[dict[str, Any]], reached: Score, size: int) -> dict[str, Any]:
    """What the distilled set reaches, and how many natural images would."""
    needed = natural_images_for(natural, reached)
    most = max(entry["support_size"] for entry in natural)
    said = f"more than {most:,}" if needed is None else f"about {needed:,}"
    return {
        "distilled": {
            "support_size": size,
            f"test_{reached.measure.key}": reached.value,
            "test_loss": reached.loss,
        },
        "natural_images_needed": needed,
        "finding": (
            f"{size:,} distilled images reach {_in_words(reached)}; of natural images that takes "
            f"{said}, {_ratio(most if needed is None else needed, size)} times as many."
        ),
    }


def _in_words(score: Score) -> str:
    return f"{score.value:.2%}" if score.measure is ACCURACY else f"R² {score.value:.4f}"


def _ratio(needed: int, size: int) -> str:
    return f"{needed / size:,.3g}" if needed < 1000 * size else f"{needed / size:,.0f}"


def natural_images_for(natural: list[dict[str, Any]], wanted: Score) -> int | None:
    """How many natural images have that mean score.

    Between two measured numbers it is interpolated on a logarithmic scale. None: more than were
    measured. The smallest number measured: so many or fewer.
    """
    ordered = sorted(natural, key=lambda entry: entry["support_size"])
    below = None
    for entry in ordered:
        size, reached = entry["support_size"], entry[f"test_{wanted.measure.key}"]
        if reached >= wanted.value:
            if below is None:
                return int(size)
            smaller, less = below["support_size"], below[f"test_{wanted.measure.key}"]
            share = (wanted.value - less) / (reached - less)
            return round(smaller * math.exp(share * math.log(size / smaller)))
        below = entry
    return None


def _draw(path: pathlib.Path, report: dict[str, Any], run: RunSettings) -> None:
    """Writes the figure; raises a UserError where it cannot be written."""
    # Not before: matplotlib takes its time.
    from kipper.server.figures.natural import natural_figure
    from kipper.server.figures.style import png

    shared = ", ".join(
        (
            run.compute.dataset,
            run.compute.architecture,
            run.compute.kernel.upper(),
            run.compute.preprocess,
        )
    )
    try:
        write_bytes(path, png(natural_figure(report, shared)))
    except OSError as error:
        raise UserError(f"--figure={path} cannot be written ({error.strerror}).") from error
