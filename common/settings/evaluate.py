"""Settings of `evaluate`."""

import dataclasses
import pathlib

from kipper.common.engines import ENGINES
from kipper.common.errors import UserError
from kipper.common.settings.field import Kernel, KernelDtype, Preprocess, Settings, setting

NO_DISTILLED = "--distilled is required: the folder of a run, or the .npz file of a distilled set."


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """Settings of `evaluate`; those not given are as in the run that made the distilled set."""

    distilled: str | None = setting(
        None,
        "Folder of a run, a distilled.npz, or a file released with the KIP paper; required without "
        "--natural.",
    )
    natural: str | None = setting(
        None,
        "Numbers of natural training images, such as 10,100,1000: evaluate that many, balanced by "
        "class, with their own labels.",
    )
    seeds: int = setting(
        3, "With --natural: number of draws for each number; their seeds start from 0."
    )
    figure: str | None = setting(
        None, "With --natural: a PNG to draw, of accuracy against the number of natural images."
    )
    dataset: str | None = setting(None, "As for distill; by default that of the run.")
    data_dir: str | None = setting(None, "Folder of the data set's original files.")
    preprocess: Preprocess | None = setting(
        None,
        "Only for a file without preprocessing.npz beside it: fitted to the training images.",
    )
    architecture: str | None = setting(None, "Evaluate with another architecture.")
    kernel: Kernel | None = setting(None, "Evaluate with another kernel.")
    kernel_dtype: KernelDtype | None = setting(None, "Evaluate in another precision.")
    ridge: float | None = setting(None, "Evaluate with another ridge.")
    engine: str = setting("auto", "Implementation of kernel blocks, as for distill.", ENGINES)
    num_workers: int = setting(2, "Number of worker threads.")
    block_support: int | None = setting(None, "As for distill.")
    block_target: int | None = setting(None, "As for distill.")
    test_limit: int | None = setting(None, "Use only this many test images, balanced by class.")
    json: bool = setting(False, "Print JSON on a terminal too, where a table is printed otherwise.")

    @property
    def natural_sizes(self) -> list[int]:
        """The numbers of `natural`, ascending; see `check`."""
        return sorted({int(size) for size in (self.natural or "").split(",")})

    def check(self) -> None:
        super().check()
        self.check_at_least(1, "seeds", "num_workers")
        if self.natural is None:
            if self.figure is not None:
                raise UserError("--figure shows the results of --natural; give both.")
        elif not all(size.strip().isdecimal() for size in self.natural.split(",")):
            raise UserError(
                f"--natural is {self.natural!r}; it must be numbers of images separated by commas, "
                "such as 10,100,1000."
            )
        elif self.natural_sizes[0] == 0:
            raise UserError("--natural has 0; it must be numbers of images, 1 or more.")
        if self.figure is not None and not pathlib.Path(self.figure).parent.is_dir():
            raise UserError(f"--figure is {self.figure}, but that folder does not exist.")
