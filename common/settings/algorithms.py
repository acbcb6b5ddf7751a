"""Settings of the two algorithms, beside those that every run has."""

import dataclasses
import math
import pathlib

from kipper.common.augmentation import parse_augmentation
from kipper.common.errors import UserError
from kipper.common.settings.field import check_at_least, setting
from kipper.common.settings.run import RunSettings

SCHEDULES = ("constant", "linear", "cosine", "exponential", "warmup_cosine")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillSettings(RunSettings):
    """Settings of KIP: learn support images, and optionally labels, by gradient descent."""

    initial: str | None = setting(
        None,
        "Go on from a distilled set, images and labels: a distilled.npz with its "
        "preprocessing.npz, or a file released with the KIP paper.",
    )
    support_init: str = setting(
        "natural", "Start from training images, or from noise.", ("natural", "noise")
    )
    freeze_pixels: float = setting(
        0.0, "Share of each support image's pixels that start as noise and are never learned."
    )
    sample_architectures: str | None = setting(
        None,
        "Draw the architecture of each step: --architecture or one of these, with commas between. "
        "Scores are those of --architecture.",
    )
    augment: str | None = setting(
        None,
        "Change target images at random, each by itself and anew at each step, before they are "
        "preprocessed: flip,shift:SHARE,rotate:DEGREES,color:SHARE.",
    )
    learn_labels: bool = setting(False, "Learn the labels too, with the same optimiser.")
    solve_labels_every: int | None = setting(
        None,
        "Solve for the labels in closed form every so many steps, from the step's targets, instead "
        "of learning them.",
    )
    steps: int = setting(
        1000, "Gradient steps; a finished run may be resumed with more.", free=True
    )
    target_batch_size: int | None = setting(
        None,
        "Target images a step, balanced by class and drawn anew, at most all of them; 50 for each "
        "support image, at most 5000, if not given.",
    )
    learning_rate: float = setting(0.04, "Learning rate of Adam.")
    label_learning_rate: float | None = setting(
        None, "That of learned labels; --learning_rate if not given."
    )
    schedule: str = setting(
        "constant",
        "How learning rates change from step to step: optax's schedules of these names.",
        SCHEDULES,
    )
    schedule_steps: int | None = setting(
        None,
        "The step where the schedule ends; --steps may be fewer, or more, at the rate of its end.",
    )
    schedule_end: float = setting(
        0.01, "The share of the learning rates that is left where the schedule ends."
    )
    eval_every: int | None = setting(
        None, "Evaluate every so many steps; at 0, 1, 2, 4, 6, 8, 12, 18, … if not given."
    )

    @property
    def targets_per_step(self) -> int:
        """As given, or in proportion to what is learned: more hardly steadies the gradient.

        5000 is the number of the released notebook of arXiv 2011.00050, for 100 support images.
        """
        return self.target_batch_size or min(50 * self.support_size, 5000)

    @property
    def architectures(self) -> tuple[str, ...]:
        """Of which one is drawn at each step; the first one scores."""
        others = self.sample_architectures.split(",") if self.sample_architectures else ()
        return (self.architecture, *(name.strip() for name in others))

    def check(self) -> None:
        super().check()
        if self.augment is not None:
            parse_augmentation(self.augment)
        counts = ("target_batch_size", "eval_every", "solve_labels_every", "schedule_steps")
        check_at_least(self, 1, counts)
        check_at_least(self, 0, ("steps",))
        if not 0 <= self.freeze_pixels < 1:
            raise UserError(f"--freeze_pixels is {self.freeze_pixels}; it is from 0 to below 1.")
        self._check_initial()
        self._check_labels()
        for name in ("learning_rate", "label_learning_rate"):
            rate = getattr(self, name)
            if rate is not None and not (math.isfinite(rate) and rate > 0):
                raise UserError(f"--{name} is {rate}; it must be a finite number above 0.")
        self._check_schedule()

    def _check_initial(self) -> None:
        if self.initial is None:
            return
        if self.support_init != "natural" or self.freeze_pixels:
            raise UserError("--initial excludes --support_init=noise and --freeze_pixels.")
        workdir = pathlib.Path(self.workdir).resolve()
        if self.overwrite and pathlib.Path(self.initial).resolve().is_relative_to(workdir):
            raise UserError(
                f"--overwrite would remove --initial={self.initial}, which lies in the workdir; "
                "give another --workdir."
            )

    def _check_labels(self) -> None:
        if self.learn_labels and self.solve_labels_every is not None:
            raise UserError("--learn_labels and --solve_labels_every exclude each other.")
        if self.label_learning_rate is not None and not self.learn_labels:
            raise UserError("--label_learning_rate needs --learn_labels.")

    def _check_schedule(self) -> None:
        if self.schedule == "constant" and self.schedule_steps is not None:
            others = ", ".join(SCHEDULES[1:])
            raise UserError(f"--schedule_steps needs a --schedule that ends: {others}.")
        if self.schedule != "constant" and self.schedule_steps is None:
            # Not --steps, which a resumed run may change: the steps made would have been others.
            raise UserError(
                f"--schedule={self.schedule} needs --schedule_steps, the step where it ends."
            )
        if not 0 <= self.schedule_end <= 1:
            raise UserError(f"--schedule_end is {self.schedule_end}; it is from 0 to 1.")
        if self.schedule == "exponential" and self.schedule_end == 0:
            raise UserError(
                "--schedule_end is 0, which --schedule=exponential never reaches; give more than 0."
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
