"""Settings of the two algorithms."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

from kipper.common.augmentation import parse_augmentation
from kipper.common.errors import UserError
from kipper.common.settings.compute import ComputeSettings
from kipper.common.settings.field import setting

Schedule = Literal["constant", "linear", "cosine", "exponential", "warmup_cosine"]
Loss = Literal["squared", "cross_entropy"]
OptimiserName = Literal["adam", "soap"]
RecipeName = Literal["paper", "fast"]

# What each recipe stands for. `paper` is as arXiv 2011.00050 and 2107.13034.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {"loss": "squared", "average": 0.0, "learning_rate": 0.04},
    "fast": {"loss": "cross_entropy", "average": 0.98, "learning_rate": 0.06},
}
DEFAULT_RECIPE: RecipeName = "paper"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillSettings(ComputeSettings):
    """KIP: learn support images, and optionally labels, by gradient descent."""

    recipes = RECIPES

    initial: str | None = setting(
        None,
        "Start from the images and labels of a distilled set: the folder of a run, a distilled.npz "
        "with its preprocessing.npz, or a file released with the KIP paper.",
    )
    support_init: Literal["natural", "noise"] = setting(
        "natural", "Start from training images, or from noise."
    )
    freeze_pixels: float = setting(
        0.0, "Share of each support image's pixels that start as noise and are never learned."
    )
    sample_architectures: str | None = setting(
        None,
        "Draw the architecture of each step from --architecture and these, separated by commas. "
        "Scores are those of --architecture.",
    )
    augment: str | None = setting(
        None,
        "Augment each target image at random in every step, before preprocessing: "
        "flip,shift:SHARE,rotate:DEGREES,color:SHARE.",
    )
    learn_labels: bool = setting(False, "Learn the labels too, with the same optimiser.")
    solve_labels_every: int | None = setting(
        None,
        "Instead of learning the labels, solve for them in closed form from the step's targets, "
        "once in this many steps.",
    )
    recipe: RecipeName = setting(
        DEFAULT_RECIPE,
        "Values for --loss, --average and --learning_rate where you do not give them: paper, those "
        "of the KIP papers; fast, the cross-entropy and an average of the iterates, which reach "
        "the same accuracy in fewer steps.",
        free=True,
    )
    loss: Loss = setting(
        "squared",
        "The squared error of the predicted labels, or the cross-entropy of classes at a "
        "temperature that is learned too.",
    )
    average: float = setting(
        0.0,
        "Evaluate, save and show a moving average of images and labels. Each step keeps this share "
        "of it, such as 0.98; 0 for no average. Steps go on from the last iterate.",
    )
    stop: Literal["steps", "plateau"] = setting(
        "steps",
        "End after --steps, or before that once the score on held-out training images has not "
        "risen for --patience steps.",
        free=True,
    )
    patience: int = setting(
        500, "With --stop=plateau: steps without a better score on held-out images.", free=True
    )
    steps: int = setting(
        1000, "Number of gradient steps; a finished run resumes if it is given more.", free=True
    )
    target_batch_size: int | None = setting(
        None,
        "Target images of a step, drawn for each step and balanced by class, at most all; by "
        "default 50 for each support image, and at most 5000.",
    )
    optimiser: OptimiserName = setting(
        "adam",
        "Adam, or SOAP: Adam in the bases of the gradient's second moments along each axis of the "
        "images, which needs fewer steps on some data (docs/kip.md).",
    )
    learning_rate: float = setting(0.04, "Learning rate of the optimiser.")
    label_learning_rate: float | None = setting(
        None, "Learning rate of learned labels; by default --learning_rate."
    )
    schedule: Schedule = setting(
        "constant", "How learning rates change over the steps: the optax schedule of this name."
    )
    schedule_steps: int | None = setting(
        None,
        "The step at which the schedule ends; --steps may be smaller or larger, and the final rate "
        "then stays.",
    )
    schedule_end: float = setting(
        0.01, "The share of the learning rates that remains when the schedule ends."
    )
    eval_every: int | None = setting(
        None,
        "Number of steps between evaluations; by default at steps 0, 1, 2, 4, 6, 8, 12, 18, …, "
        "without evaluations of many images that would take over half the time of the steps.",
    )

    @property
    def targets_per_step(self) -> int:
        """`target_batch_size`, by default in proportion to the support set.

        More targets hardly steady the gradient. 5000 is the number of the released notebook of
        arXiv 2011.00050, for 100 support images.
        """
        return self.target_batch_size or min(50 * self.support_size, 5000)

    @property
    def architectures(self) -> tuple[str, ...]:
        """The architectures that steps draw from; scores are those of the first."""
        others = self.sample_architectures.split(",") if self.sample_architectures else ()
        return (self.architecture, *(name.strip() for name in others))

    @property
    def resolved(self) -> Mapping[str, object]:
        labels = self.label_learning_rate or self.learning_rate if self.learn_labels else "none"
        return {"target_batch_size": self.targets_per_step, "label_learning_rate": labels}

    @property
    def input_files(self) -> Mapping[str, str | None]:
        return {"initial": self.initial}

    def check(self) -> None:
        super().check()
        if self.augment is not None:
            parse_augmentation(self.augment)
        counts = ("target_batch_size", "eval_every", "solve_labels_every", "schedule_steps")
        self.check_at_least(1, *counts, "patience")
        self.check_at_least(0, "steps")
        if not 0 <= self.freeze_pixels < 1:
            raise UserError(
                f"--freeze_pixels is {self.freeze_pixels}; it must be from 0 to below 1."
            )
        if self.initial is not None and (self.support_init != "natural" or self.freeze_pixels):
            raise UserError("--initial excludes --support_init=noise and --freeze_pixels.")
        self._check_labels()
        self._check_loss()
        for name in ("learning_rate", "label_learning_rate"):
            rate = getattr(self, name)
            if rate is not None and not (math.isfinite(rate) and rate > 0):
                raise UserError(f"--{name} is {rate}; it must be a finite number above 0.")
        self._check_schedule()

    def _check_labels(self) -> None:
        if self.learn_labels and self.solve_labels_every is not None:
            raise UserError("--learn_labels and --solve_labels_every exclude each other.")
        if self.label_learning_rate is not None and not self.learn_labels:
            raise UserError("--label_learning_rate needs --learn_labels.")

    def _check_loss(self) -> None:
        if not 0 <= self.average < 1:
            raise UserError(f"--average is {self.average}; it must be from 0 to below 1.")
        if self.solve_labels_every is None:
            return
        if self.loss != "squared":
            raise UserError(
                f"--solve_labels_every minimises the squared error, but --loss is {self.loss}; "
                "give --loss=squared."
            )
        if self.average:
            raise UserError(
                "--solve_labels_every fits labels to the iterate, of which --average is another; "
                "give --average=0."
            )

    def _check_schedule(self) -> None:
        if self.schedule == "constant" and self.schedule_steps is not None:
            others = ", ".join(typing.get_args(Schedule)[1:])
            raise UserError(f"--schedule_steps needs a --schedule that ends: {others}.")
        if self.schedule != "constant" and self.schedule_steps is None:
            # --steps is no default: a resumed run may change it, which would change earlier steps.
            raise UserError(
                f"--schedule={self.schedule} needs --schedule_steps, the step where it ends."
            )
        if not 0 <= self.schedule_end <= 1:
            raise UserError(f"--schedule_end is {self.schedule_end}; it must be from 0 to 1.")
        if self.schedule == "exponential" and self.schedule_end == 0:
            raise UserError(
                "--schedule_end is 0, which --schedule=exponential never reaches; give more than 0."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolveLabelsSettings(ComputeSettings):
    """Label Solve: solve for the labels of natural support images in closed form."""

    label_ridge: Literal["paper", "notebook"] = setting(
        "paper",
        "paper: minimise the loss that evaluation uses; notebook: the released notebook's "
        "formula, with an absolute 1e-6 / support_size on both factors.",
    )
