"""Settings of `export`."""

import dataclasses

from kipper.common.errors import UserError
from kipper.common.settings.field import setting

FORMS = ("released", "images", "safetensors", "torchvision")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Settings of `export`: a distilled set in a form that others read."""

    distilled: str | None = setting(None, "A distilled.npz, or a file released with the KIP paper.")
    to: str | None = setting(
        None,
        "released: as the paper's files, with the preprocessing beside it; images: a folder of "
        "PNGs and labels.csv; safetensors: all of it in one file; torchvision: an .npz of pixels, "
        "(n, channels, height, width), and classes.",
        FORMS,
    )
    output: str | None = setting(
        None, "The folder to write to (released, images), or the file (safetensors, torchvision)."
    )
    dataset: str | None = setting(
        None, "Only for a file without preprocessing.npz beside it: what it was distilled from."
    )
    data_dir: str | None = setting(None, "Folder of the data set's own files.")
    preprocess: str | None = setting(
        None,
        "Only for such a file, if its name does not say it: fitted to the training images.",
        ("standard", "zca"),
    )

    def check(self) -> None:
        """Refuses what is missing.

        Raises:
            UserError: one sentence naming the flag.
        """
        if not self.distilled:
            raise UserError("--distilled is required: the .npz file of a distilled set.")
        if self.to is None:
            raise UserError(f"--to is required; it must be one of {', '.join(FORMS)}.")
        if not self.output:
            raise UserError("--output is required: the folder or the file to write.")
