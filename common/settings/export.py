"""Settings of `export`."""

import dataclasses
from typing import Literal

from kipper.common.settings.evaluate import NO_DISTILLED
from kipper.common.settings.field import Preprocess, Settings, required, setting

ExportFormat = Literal["released", "images", "safetensors", "torchvision"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """Settings of `export`: a distilled set in a format that other programs read."""

    distilled: str = required(
        "Folder of a run, a distilled.npz, or a file released with the KIP paper.", NO_DISTILLED
    )
    to: ExportFormat = required(
        "released: like the paper's files, with the preprocessing beside it; images: a folder of "
        "PNGs and labels.csv; safetensors: everything in one file; torchvision: an .npz of pixels, "
        "(n, channels, height, width), and classes.",
        "--to is required; it must be one of released, images, safetensors, torchvision.",
    )
    output: str = required(
        "The folder to write to (released, images), or the file (safetensors, torchvision).",
        "--output is required: the folder or the file to write.",
    )
    dataset: str | None = setting(
        None, "Only for a file without preprocessing.npz beside it: the data set it was made from."
    )
    data_dir: str | None = setting(None, "Folder of the data set's original files.")
    preprocess: Preprocess | None = setting(
        None,
        "Only for a file without preprocessing.npz, if its name does not say it: fitted to the "
        "training images.",
    )
