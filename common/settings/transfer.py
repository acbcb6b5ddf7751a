"""Settings of `transfer`."""

import dataclasses
import math

from kipper.common.errors import UserError
from kipper.common.settings.evaluate import EvaluateSettings
from kipper.common.settings.field import check_at_least, check_choices, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferSettings:
    """Settings of `transfer`; defaults but `width` are those of arXiv 2107.13034."""

    distilled: str = setting(None, "A distilled.npz, or a file released with the KIP paper.")
    dataset: str | None = setting(None, "As for distill; that of the run if not given.")
    data_dir: str | None = setting(None, "Folder of the data set's own files.")
    preprocess: str | None = setting(
        None,
        "Only for a file without preprocessing.npz beside it: fitted to the training images.",
        ("standard", "zca"),
    )
    architecture: str | None = setting(
        None, "The network to train, by name; that of the run if not given."
    )
    test_limit: int | None = setting(None, "Use only this many test images, by class.")
    output: str | None = setting(
        None, "Folder for the results; that of the distilled set if not given."
    )
    width: int = setting(64, "Channels, or units, of each hidden layer; 1024 in the paper.")
    loss: str = setting(
        "mse",
        "Half the mean squared error to the labels, or the cross-entropy against each label's "
        "largest entry.",
        ("mse", "cross_entropy"),
    )
    steps: int = setting(5000, "Steps of gradient descent with momentum 0.9.")
    batch_size: int = setting(100, "Distilled images a step, at most.")
    l2: float = setting(0.001, "Half of it times the squared norm of all parameters is penalised.")
    max_lr_factor: float = setting(
        1.0,
        "The learning rate to start with, as a share of the largest that is stable for mse; "
        "cross_entropy takes about 1 / classes.",
    )
    seeds: int = setting(3, "Networks to train, with seeds from 0.")
    curve_images: int = setting(
        500, "Validation and test images, of each so many, for a point of the curve."
    )
    all_kernels: bool = setting(
        False,
        "Train nothing: evaluate the set with the kernels of many architectures.",
    )
    max_minutes: float = setting(
        5.0, "With --all_kernels: leave out a kernel that would take longer."
    )

    def check(self) -> None:
        """Refuses values that no data set could make right.

        Raises:
            UserError: one sentence naming the flag, the value and what would be right.
        """
        if not self.distilled:
            raise UserError("--distilled is required: the .npz file of a distilled set.")
        check_choices(dataclasses.replace(self, preprocess=self.preprocess or "standard"))
        counts = ("width", "steps", "batch_size", "seeds", "curve_images", "test_limit")
        check_at_least(self, 1, counts)
        for name, least in (("l2", "0 or more"), ("max_lr_factor", "above 0")):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and least == "above 0"):
                raise UserError(f"--{name} is {value}; it must be a finite number {least}.")
        if not self.max_minutes > 0:
            raise UserError(f"--max_minutes is {self.max_minutes}; it must be above 0.")

    @property
    def evaluation(self) -> EvaluateSettings:
        """What `evaluate` would be asked, to find the set and its data."""
        names = ("distilled", "dataset", "data_dir", "preprocess", "architecture", "test_limit")
        return EvaluateSettings(**{name: getattr(self, name) for name in names})
