"""Recipes of KIP that `recipe_search.py` compares, beyond those that `kipper distill` offers."""

import dataclasses
from typing import Literal

ScheduleName = Literal["constant", "linear", "cosine", "warmup_cosine"]
OptimiserName = Literal[
    "adam", "nadam", "adabelief", "ademamix", "adopt", "lion", "prodigy", "schedule_free",
    "shampoo", "shampoo_axes", "soap", "soap_axes",
]  # fmt: skip
FirstImages = Literal["natural", "noise", "class_means", "medoids", "greedy_variance"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """A recipe; the defaults are those of `kipper distill --recipe=fast --learn_labels`.

    Attributes:
        loss: as `--loss`.
        rate: the optimiser's, of images.
        label_rate: of labels; None for that of images.
        schedule: over the budget, to a hundredth of the rate.
        average: decay of the moving average that is scored; 0 scores the iterate.
        batch: targets of the first step.
        last_batch: targets of the last step, growing by the same factor for each pair computed;
            None for `batch`.
        balanced: whether a step's targets are balanced by class, or drawn uniformly.
        flips: whether targets are mirrored with probability one half, before preprocessing.
        first_images: natural images; noise; the mean image of each class; the natural image nearest
            to it (k-means with a centre for each image of a class, for one image a class); of 20
            images a class those that leave least of the kernel's variance, chosen one by one.
        optimiser: of optax, but for Shampoo and SOAP, of images as rows of a matrix, or by axes.
        temperature: the first one of the cross-entropy.
        temperature_rate: of its logarithm.
        temperature_schedule: None for that of the other rates.
        coarse_share: share of the budget for steps at half the pixels a side, at the beginning.
        transform_rate: of a linear map of pixels that all images share (arXiv 2210.12067); None for
            no such map.
    """

    loss: Literal["squared", "cross_entropy"] = "cross_entropy"
    rate: float = 0.06
    label_rate: float | None = None
    schedule: ScheduleName = "constant"
    average: float = 0.98
    batch: int = 500
    last_batch: int | None = None
    balanced: bool = True
    flips: bool = False
    first_images: FirstImages = "natural"
    optimiser: OptimiserName = "adam"
    temperature: float = 0.1
    temperature_rate: float = 0.03
    temperature_schedule: ScheduleName | None = None
    coarse_share: float = 0.0
    transform_rate: float | None = None

    def differences(self) -> dict[str, object]:
        """The fields that differ from those of `Contender()`."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }


PAPER = "paper"
FAST = "fast"

# The most promising come first, so that a search that is stopped has tried these.
CONTENDERS = {
    FAST: Contender(),
    PAPER: Contender(loss="squared", rate=0.04, average=0),
    "paper, 0.08 cosine": Contender(loss="squared", rate=0.08, schedule="cosine", average=0),
    "0.12": Contender(rate=0.12),
    "0.12 cosine": Contender(rate=0.12, schedule="cosine"),
    "0.24": Contender(rate=0.24),
    "0.24 cosine": Contender(rate=0.24, schedule="cosine"),
    "0.06 cosine": Contender(schedule="cosine"),
    "0.03": Contender(rate=0.03),
    "0.12 linear": Contender(rate=0.12, schedule="linear"),
    "0.12 warm-up, cosine": Contender(rate=0.12, schedule="warmup_cosine"),
    "0.48 cosine": Contender(rate=0.48, schedule="cosine"),
    "250 targets": Contender(batch=250),
    "250 targets, 0.12 cosine": Contender(batch=250, rate=0.12, schedule="cosine"),
    "100 targets": Contender(batch=100),
    "50 targets": Contender(batch=50),
    "100 to 500 targets": Contender(batch=100, last_batch=500),
    "50 to 500 targets": Contender(batch=50, last_batch=500),
    "100 targets, 0.03": Contender(batch=100, rate=0.03),
    "1,000 targets": Contender(batch=1000),
    "250 to 1,000 targets": Contender(batch=250, last_batch=1000),
    "100 to 1,000 targets": Contender(batch=100, last_batch=1000),
    "first images: medoids": Contender(first_images="medoids"),
    "first images: class means": Contender(first_images="class_means"),
    "first images: greedy variance": Contender(first_images="greedy_variance"),
    "first images: noise": Contender(first_images="noise"),
    "uniform targets": Contender(balanced=False),
    "flips": Contender(flips=True),
    "labels at 0.02": Contender(label_rate=0.02),
    "labels at 0.18": Contender(label_rate=0.18),
    "AdaBelief": Contender(optimiser="adabelief"),
    "Nadam": Contender(optimiser="nadam"),
    "AdEMAMix": Contender(optimiser="ademamix"),
    "ADOPT": Contender(optimiser="adopt"),
    "Lion, 0.006": Contender(optimiser="lion", rate=0.006),
    "Lion, 0.02": Contender(optimiser="lion", rate=0.02),
    "Prodigy": Contender(optimiser="prodigy"),
    "schedule-free, 0.06": Contender(optimiser="schedule_free", average=0),
    "schedule-free, 0.24": Contender(optimiser="schedule_free", rate=0.24, average=0),
    "Shampoo": Contender(optimiser="shampoo"),
    "SOAP": Contender(optimiser="soap"),
    "SOAP by axes": Contender(optimiser="soap_axes"),
    "Shampoo by axes": Contender(optimiser="shampoo_axes"),
    "SOAP, 0.12": Contender(optimiser="soap", rate=0.12),
    "SOAP, 250 targets": Contender(optimiser="soap", batch=250),
    "SOAP, 250 targets, 0.12 cosine": Contender(
        optimiser="soap", batch=250, rate=0.12, schedule="cosine"
    ),
    "SOAP by axes, 250 targets": Contender(optimiser="soap_axes", batch=250),
    "SOAP, 50 to 500 targets, temperature from 0.3": Contender(
        optimiser="soap", batch=50, last_batch=500, temperature=0.3
    ),
    "50 to 500 targets, temperature from 0.3": Contender(batch=50, last_batch=500, temperature=0.3),
    "250 targets, temperature from 0.3": Contender(batch=250, temperature=0.3),
    "100 targets, temperature from 0.3": Contender(batch=100, temperature=0.3),
    "100 targets, 0.12 cosine, temperature from 0.3": Contender(
        batch=100, rate=0.12, schedule="cosine", temperature=0.3
    ),
    "SOAP by axes, 250 targets, temperature from 0.3": Contender(
        optimiser="soap_axes", batch=250, temperature=0.3
    ),
    "a third at half the side": Contender(coarse_share=1 / 3),
    "a tenth at half the side": Contender(coarse_share=0.1),
    "temperature at 0.1": Contender(temperature_rate=0.1),
    "temperature at 0.01": Contender(temperature_rate=0.01),
    "temperature fixed at 0.1": Contender(temperature_rate=0),
    "temperature from 0.03": Contender(temperature=0.03),
    "temperature from 0.3": Contender(temperature=0.3),
    "0.12 cosine, temperature's rate constant": Contender(
        rate=0.12, schedule="cosine", temperature_schedule="constant"
    ),
    "transform at 0.0003": Contender(transform_rate=0.0003),
    "transform at 0.001": Contender(transform_rate=0.001),
}
