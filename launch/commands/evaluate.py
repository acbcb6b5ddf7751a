"""`kipper evaluate`: the accuracy of a distilled set, from its two files and a data set."""

import dataclasses
from typing import Any

from kipper.common.settings import EvaluateSettings
from kipper.launch.commands.display import print_record
from kipper.launch.commands.distilled_file import (
    Conditions,
    conditions,
    kernel_on_test,
    read_distilled,
    remark,
)
from kipper.launch.commands.natural import evaluate_natural
from kipper.server.evaluation import score
from kipper.server.measures import ACCURACY, Score
from kipper.server.run_numerics import RunNumerics

# Share of the test images whose predictions may change because another engine or processor rounds
# differently: those that nearly tie.
_SHARE_BY_ROUNDING = 0.002


@dataclasses.dataclass(frozen=True)
class FileEvaluation:
    """The score of a distilled set.

    Attributes:
        test: the score measured now.
        recorded: the score that its run recorded; None if there is none.
        agrees_with_record: whether both are equal up to rounding; None without a record, or if it
            was measured with other settings or data.
        temperature: predictions divided by it are logits; None if none was learned.
        support_size: number of distilled images.
        conditions: what the score was measured with.
        kernel_pairs: pairs of images whose kernel was computed.
        numerics: what computed the set; None if its recipe does not say.
    """

    test: Score
    recorded: Score | None
    agrees_with_record: bool | None
    temperature: float | None
    support_size: int
    conditions: Conditions
    kernel_pairs: int
    numerics: RunNumerics | None

    @property
    def test_accuracy(self) -> float | None:
        """The share of test images in their class; None for targets of a regression."""
        return self.test.value if self.test.measure is ACCURACY else None

    @property
    def test_r2(self) -> float | None:
        """R² of targets; None for classes."""
        return None if self.test.measure is ACCURACY else self.test.value

    def __repr__(self) -> str:
        """In a few words; `record` has everything."""
        said = {True: "; the run recorded the same", False: "; the run recorded another", None: ""}
        agrees = said[self.agrees_with_record]
        return f"<test {self.test.words} by {self.support_size} images{agrees}>"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.test.record("test"),
            "test_loss": self.test.loss,
            f"recorded_test_{self.test.measure.key}": self.recorded and self.recorded.value,
            "agrees_with_record": self.agrees_with_record,
            **({} if self.temperature is None else {"temperature": self.temperature}),
            "support_size": self.support_size,
            **self.conditions,
            "kernel_pairs": self.kernel_pairs,
            "numerics": self.numerics
            and {
                **self.numerics.record(),
                "mixed": self.numerics.is_mixed,
            },
        }


def print_evaluation(settings: EvaluateSettings) -> None:
    """Prints the evaluation; warns on stderr if it contradicts the record."""
    settings.check()
    if settings.natural is not None:
        print_record(evaluate_natural(settings).record(), settings.json)
        return
    found = evaluate_file(settings)
    print_record(found.record(), settings.json)
    if found.recorded is not None and found.agrees_with_record is False:
        remark(
            f"The {found.test.measure.title} is {found.test.amount}, but the run recorded "
            f"{found.recorded.amount} for this set with the same data and settings; the kernel "
            "or the preprocessing has changed."
        )


def evaluate_file(settings: EvaluateSettings) -> FileEvaluation:
    """Test score and loss of a distilled set: accuracy for classes, R² for real-valued targets.

    Raises:
        UserError: a file or a setting cannot be used, or they do not fit each other.
        NumericalError: the regression could not be solved.
    """
    file = read_distilled(settings)
    compute = file.run.compute
    with kernel_on_test(file.run, file.dataset, file.preprocessing) as (pool, kernel, test):
        kernel.set_support(file.images.astype(compute.kernel_dtype))
        found = score(kernel, file.labels, compute.ridge, test.key, test.labels, file.temperature)
    agrees = None
    if file.as_recorded and file.recorded is not None:
        rounding = max(_SHARE_BY_ROUNDING, 1.5 / len(test.labels))
        agrees = abs(found.value - file.recorded.value) <= rounding
    return FileEvaluation(
        test=found,
        recorded=file.recorded,
        agrees_with_record=agrees,
        temperature=file.temperature,
        support_size=len(file.images),
        conditions=conditions(file.run, test),
        kernel_pairs=pool.counts.kernel_pairs,
        numerics=file.recipe.numerics if file.recipe is not None else None,
    )
