"""How well a support set predicts: accuracy on classes, R² on real-valued targets."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from kipper.common.numbers import percent, r_squared
from kipper.common.sealed import is_number


@dataclasses.dataclass(frozen=True)
class Measure:
    """The quantity that a score measures.

    Attributes:
        name: the name that is shown, with its unit.
        key: records call its fields train_KEY, test_KEY, validation_KEY and natural_KEY.
        factor: the factor from a recorded value to the shown one.
    """

    name: str
    key: str
    factor: float

    def amount(self, value: float) -> str:
        """A shown value with its unit, rounded: 85.5 %, or 0.855."""
        return percent(value / 100) if self.factor == 100.0 else r_squared(value)

    def text(self, value: float | None) -> str:
        """A shown value in words, such as accuracy 85.5 %; empty for None."""
        return "" if value is None else f"{self.title} {self.amount(value)}"

    @property
    def title(self) -> str:
        """Its name without its unit."""
        return self.name.removesuffix(" (%)")


ACCURACY = Measure("accuracy (%)", "accuracy", 100.0)
R_SQUARED = Measure("R²", "r2", 1.0)


@dataclasses.dataclass(frozen=True)
class Score:
    """The score of a support set on some images.

    Attributes:
        measure: accuracy is the share of images whose largest prediction is at their class; R² is
            the share of the targets' variance that is predicted, averaged over outputs.
        value: at most 1; larger is better. NaN for R² of a single image, as in scikit-learn, whose
            variance is not defined; null in records.
        loss: half the mean squared error over all entries, against centred one-hot vectors or
            centred targets; None for a score of classes that was read from a record.
        cross_entropy: the mean of -log p over images, at the set's temperature; None for a set
            without one.
    """

    measure: Measure
    value: float
    loss: float | None = dataclasses.field(default=None, compare=False)
    cross_entropy: float | None = None

    @property
    def shown(self) -> float:
        """The value in the unit of `measure.name`."""
        return self.measure.factor * self.value

    @property
    def amount(self) -> str:
        """The value for display: 85.5 %, or 0.855 for R²."""
        return self.measure.amount(self.shown)

    @property
    def words(self) -> str:
        """The same with the measure's name: accuracy 85.5 %."""
        return self.measure.text(self.shown)

    @property
    def brief(self) -> str:
        """The value without the measure's name where it is clear: 85.5 %, but R² 0.855."""
        return self.amount if self.measure is ACCURACY else self.words

    @property
    def rank(self) -> float:
        """A number to compare scores on the same images by: the larger, the better."""
        if math.isnan(self.value):
            return -math.inf if self.loss is None else -self.loss
        return self.value

    def record(self, part: str) -> dict[str, float]:
        """Fields of a record: PART_accuracy, or PART_r2 and PART_mse in the targets' own units.

        PART_cross_entropy is added for a set with a temperature.
        """
        fields = {f"{part}_{self.measure.key}": self.value}
        if self.measure is R_SQUARED and self.loss is not None:
            fields[f"{part}_mse"] = 2 * self.loss
        if self.cross_entropy is not None:
            fields[f"{part}_cross_entropy"] = self.cross_entropy
        return fields

    @classmethod
    def read(cls, record: Mapping[str, Any], part: str) -> "Score | None":
        """The score of a part such as "test"; None if the record has none.

        Raises:
            TypeError: the record has something else in its place.
        """
        mse, cross_entropy = record.get(f"{part}_mse"), record.get(f"{part}_cross_entropy")
        for measure in (ACCURACY, R_SQUARED):
            value = record.get(f"{part}_{measure.key}")
            if value is None and (mse is None or measure is ACCURACY):
                continue
            others = (each for each in (value, mse, cross_entropy) if each is not None)
            if not all(map(is_number, others)):
                raise TypeError(f"its {part} score cannot be {value!r:.40}")
            number = math.nan if value is None else float(value)
            return cls(measure, number, None if mse is None else mse / 2, cross_entropy)
        return None
