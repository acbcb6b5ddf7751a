"""Settings of the two algorithms, beside those that every run has."""

import dataclasses
import math

from kipper.common.errors import UserError
from kipper.common.settings.field import check_at_least, setting
from kipper.common.settings.run import RunSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillSettings(RunSettings):
    """Settings of KIP: learn support images, and optionally labels, by gradient descent."""

    learn_labels: bool = setting(False, "Learn the labels too, with the same optimiser.")
    steps: int = setting(
        1000, "Gradient steps; a finished run may be resumed with more.", free=True
    )
    target_batch_size: int | None = setting(
        None,
        "Target images a step, balanced by class and drawn anew, at most all of them; 50 for each "
        "support image, at most 5000, if not given.",
    )
    learning_rate: float = setting(0.04, "Learning rate of Adam.")
    eval_every: int | None = setting(
        None, "Evaluate every so many steps; at 0, 1, 2, 4, 6, 8, 12, 18, … if not given."
    )

    @property
    def targets_per_step(self) -> int:
        """As given, or in proportion to what is learned: more hardly steadies the gradient.

        5000 is the number of the released notebook of arXiv 2011.00050, for 100 support images.
        """
        return self.target_batch_size or min(50 * self.support_size, 5000)

    def check(self) -> None:
        super().check()
        check_at_least(self, 1, ("target_batch_size", "eval_every"))
        check_at_least(self, 0, ("steps",))
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(
                f"--learning_rate is {self.learning_rate}; it must be a finite number above 0."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolveLabelsSettings(RunSettings):
    """Settings of LS: solve for the labels of natural support images in closed form."""

    label_ridge: str = setting(
        "paper",
        "paper: minimise the loss that evaluation uses; notebook: the released notebook's "
        "formula, with an absolute 1e-6 / support_size on both factors.",
        ("paper", "notebook"),
    )
