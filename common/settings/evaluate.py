"""Settings of `evaluate`."""

import dataclasses

from kipper.common.engines import ENGINES
from kipper.common.settings.field import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Settings of `evaluate`; what is not given is as in the run that made the distilled set."""

    distilled: str = setting(None, "A distilled.npz, or a file released with the KIP paper.")
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
