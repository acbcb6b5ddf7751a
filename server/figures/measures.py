"""What runs are judged by: accuracy on classes, R² on real-valued targets."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Measure:
    """A score in records of a run.

    Attributes:
        name: as shown, with its unit.
        key: its fields are called train_KEY, test_KEY, validation_KEY, natural_KEY.
        factor: from a record's value to the shown one.
    """

    name: str
    key: str
    factor: float

    def of(self, record: Mapping[str, Any] | None, part: str) -> float | None:
        """The shown value of a part, such as "test"; None where the record does not have it."""
        value = (record or {}).get(f"{part}_{self.key}")
        return None if value is None else self.factor * float(value)

    def digits(self, value: float) -> str:
        """A shown value to the digits that matter."""
        return f"{value:.1f}" if self.factor == 100.0 else f"{value:.3f}"

    def text(self, value: float | None) -> str:
        """A shown value in words."""
        if value is None:
            return ""
        return f"accuracy {value:.1f} %" if self.factor == 100.0 else f"R² {value:.3f}"


ACCURACY = Measure("accuracy (%)", "accuracy", 100.0)
R_SQUARED = Measure("R²", "r2", 1.0)


def measure_of(*records: Mapping[str, Any] | None) -> Measure:
    """What such records are judged by."""
    fields = {field for record in records for field in record or {}}
    return R_SQUARED if any(field.endswith("_r2") for field in fields) else ACCURACY
