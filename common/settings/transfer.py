"""Settings of `transfer`."""

import dataclasses
import math
from typing import Literal

from kipper.common.errors import UserError
from kipper.common.settings.evaluate import NO_DISTILLED, EvaluateSettings
from kipper.common.settings.field import Preprocess, Settings, required, setting

Loss = Literal["mse", "cross_entropy"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferSettings(Settings):
    """Settings of `transfer`; defaults except `width` are those of arXiv 2107.13034."""

    distilled: str = required(
        "Folder of a run, a distilled.npz, or a file released with the KIP paper.", NO_DISTILLED
    )
    dataset: str | None = setting(None, "As for distill; by default that of the run.")
    data_dir: str | None = setting(None, "Folder of the data set's original files.")
    preprocess: Preprocess | None = setting(
        None,
        "Only for a file without preprocessing.npz beside it: fitted to the training images.",
    )
    architecture: str | None = setting(
        None, "The network to train, by name; by default that of the run."
    )
    test_limit: int | None = setting(None, "Use only this many test images, balanced by class.")
    output: str | None = setting(
        None, "Folder for the results; by default that of the distilled set."
    )
    width: int = setting(
        64, "Number of channels, or units, of each hidden layer; 1024 in the paper."
    )
    loss: Loss = setting(
        "mse",
        "Half the mean squared error to the labels, or the cross-entropy to the class of each "
        "label's largest entry.",
    )
    steps: int = setting(5000, "Number of steps of gradient descent with momentum 0.9.")
    batch_size: int = setting(100, "Maximum number of distilled images in a step.")
    l2: float = setting(
        0.001, "Weight decay: l2 / 2 times the squared norm of all parameters is added to the loss."
    )
    max_lr_factor: float = setting(
        1.0,
        "Initial learning rate, as a share of the largest that is stable for mse; cross_entropy "
        "needs about 1 / classes.",
    )
    seeds: int = setting(3, "Number of networks to train; their seeds start from 0.")
    curve_images: int = setting(
        500, "Number of validation images, and of test images, for each point of the curve."
    )
    all_kernels: bool = setting(
        False,
        "Train nothing: evaluate the set with the kernels of many architectures.",
    )
    max_minutes: float = setting(
        5.0, "With --all_kernels: skip a kernel that would take longer than this."
    )
    json: bool = setting(False, "Print JSON on a terminal too, where a table is printed otherwise.")

    def check(self) -> None:
        super().check()
        counts = ("width", "steps", "batch_size", "seeds", "curve_images", "test_limit")
        self.check_at_least(1, *counts)
        for name, least in (("l2", "0 or more"), ("max_lr_factor", "above 0")):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and least == "above 0"):
                raise UserError(f"--{name} is {value}; it must be a finite number {least}.")
        if not self.max_minutes > 0:
            raise UserError(f"--max_minutes is {self.max_minutes}; it must be above 0.")

    @property
    def evaluation(self) -> EvaluateSettings:
        """The settings of `evaluate` that find the set and its data."""
        names = ("distilled", "dataset", "data_dir", "preprocess", "architecture", "test_limit")
        return EvaluateSettings(**{name: getattr(self, name) for name in names})
