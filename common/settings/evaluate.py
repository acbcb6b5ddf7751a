"""Settings of `evaluate`."""

import dataclasses
import pathlib

from kipper.common.engines import ENGINES
from kipper.common.errors import UserError
from kipper.common.settings.field import check_at_least, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Settings of `evaluate`; what is not given is as in the run that made the distilled set."""

    distilled: str | None = setting(
        None, "A distilled.npz, or a file released with the KIP paper; required without --natural."
    )
    natural: str | None = setting(
        None,
        "Numbers of natural training images, such as 10,100,1000: evaluate so many, equally many "
        "of each class, with their own labels.",
    )
    seeds: int = setting(3, "With --natural: draws of each number, with seeds from 0.")
    figure: str | None = setting(
        None, "With --natural: a PNG to draw, of accuracy against the number of natural images."
    )
    dataset: str | None = setting(None, "As for distill; that of the run if not given.")
    data_dir: str | None = setting(None, "Folder of the data set's own files.")
    preprocess: str | None = setting(
        None,
        "Only for a file without preprocessing.npz beside it: fitted to the training images.",
        ("standard", "zca"),
    )
    architecture: str | None = setting(None, "Evaluate with another architecture.")
    kernel: str | None = setting(None, "Evaluate with another kernel.", ("ntk", "nngp"))
    kernel_dtype: str | None = setting(
        None, "Evaluate in another precision.", ("float32", "float64")
    )
    ridge: float | None = setting(None, "Evaluate with another ridge.")
    engine: str = setting("auto", "What evaluates kernel blocks.", ENGINES)
    num_workers: int = setting(2, "Worker threads.")
    block_support: int | None = setting(None, "As for distill.")
    block_target: int | None = setting(None, "As for distill.")
    test_limit: int | None = setting(None, "Use only this many test images, by class.")

    @property
    def natural_sizes(self) -> list[int]:
        """The numbers of `natural`, ascending; see `check`."""
        return sorted({int(size) for size in (self.natural or "").split(",")})

    def check(self) -> None:
        """Refuses values that no data set could make right.

        Raises:
            UserError: one sentence naming the flag, the value and what would be right.
        """
        check_at_least(self, 1, ("seeds", "num_workers"))
        if self.natural is None:
            if self.figure is not None:
                raise UserError("--figure is drawn of --natural; give both.")
        elif not all(size.strip().isdecimal() for size in self.natural.split(",")):
            raise UserError(
                f"--natural is {self.natural!r}; it must be numbers of images with commas between "
                "them, such as 10,100,1000."
            )
        elif self.natural_sizes[0] == 0:
            raise UserError("--natural has 0; it must be numbers of images, 1 or more.")
        if self.figure is not None and not pathlib.Path(self.figure).parent.is_dir():
            raise UserError(f"--figure is {self.figure}, but there is no such folder.")
