"""`kipper export`: a distilled set in a format that other programs read."""

import pathlib
from collections.abc import Callable, Mapping

from kipper.common.datasets import load_dataset
from kipper.common.errors import KipperError, UserError
from kipper.common.files import written_for
from kipper.common.preprocessing import fit_preprocessing
from kipper.common.settings import ExportSettings
from kipper.launch.commands.distilled_file import remark, told_settings
from kipper.server import exports
from kipper.server.distilled_set import DistilledSet, Recipe, check_fits, read_set, recipe_path_of

_WRITERS: Mapping[str, Callable[[DistilledSet, Recipe, pathlib.Path], pathlib.Path]] = {
    "released": exports.write_released,
    "images": exports.write_images,
    "safetensors": exports.write_safetensors,
    "torchvision": exports.write_torchvision,
}
_TO_A_FOLDER = ("released", "images")
_OF_PIXELS = ("images", "torchvision")


def export(settings: ExportSettings) -> None:
    """Writes the set and prints where; raises as `exported`."""
    print(exported(settings))


def exported(settings: ExportSettings) -> pathlib.Path:
    """Writes the set; returns the file, or the folder of many.

    Raises:
        UserError: the set cannot be read or described, or the output cannot be written.
    """
    settings.check()
    found = read_set(pathlib.Path(settings.distilled))
    recipe = found.recipe or _fitted_recipe(settings, found)
    output = pathlib.Path(settings.output)
    _check_output(settings.to, output)
    is_new = not output.exists()
    try:
        with written_for(f"--output is {output}, which", output):
            if settings.to in _TO_A_FOLDER:
                output.mkdir(parents=True, exist_ok=True)
            written = _WRITERS[settings.to](found, recipe, output)
    except KipperError:
        if is_new and output.is_dir() and not any(output.iterdir()):
            output.rmdir()
        raise
    if settings.to in _OF_PIXELS and recipe.settings["preprocess"] == "zca":
        remark(
            "ZCA keeps neither the mean nor the contrast of an image, so these pixels are only for "
            "viewing; train on the images of --to=safetensors."
        )
    return written


def _fitted_recipe(settings: ExportSettings, found: DistilledSet) -> Recipe:
    """A recipe for a set without one, from its file name, the command line and the data set."""
    if settings.to == "released":
        raise UserError(
            f"--to=released needs {recipe_path_of(found.path)}, which does not exist, to name the "
            "set and say how to use it."
        )
    told = told_settings(settings, found, ("dataset", "preprocess"))
    dataset = load_dataset(told["dataset"], settings.data_dir)
    check_fits(found, dataset)
    preprocessing = fit_preprocessing(told["preprocess"], dataset.x_train)
    return Recipe(
        preprocessing,
        dataset.class_names,
        told,
        pixel_range=dataset.pixel_range,
        target_mean=None if dataset.has_classes else dataset.y_train.mean(axis=0),
    )


def _check_output(form: str, output: pathlib.Path) -> None:
    if form not in _TO_A_FOLDER:
        if output.is_dir() or not output.parent.is_dir():
            raise UserError(
                f"--output is {output}; for --to={form} it must be a file, in a folder that exists."
            )
    elif output.exists() and not output.is_dir():
        raise UserError(f"--output is {output}, which is a file; --to={form} writes to a folder.")
    elif form == "images" and output.exists() and any(output.iterdir()):
        raise UserError(
            f"--output is {output}, which is not empty; --to=images makes a new folder."
        )
